"""One writer per workspace: whoever comes second is told who is there.

The lock is the kernel's: it goes when its holders do, however they end. The guard of a running stage holds it
too, so after kill -9 of a flow nobody starts before the last process of that stage is gone.
"""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

_LOCK_PATH = Path(".dvc", "tmp", "calico-flow.lock")


class WorkspaceBusyError(RuntimeError):
    """Another flow run works in this workspace."""


@contextlib.contextmanager
def only_writer(root: Path, name: str) -> Iterator[int]:
    """Hold a workspace's lock and yield its file descriptor.

    Args:
        root: folder of the repository, on a disk of this machine (a lock does not cross NFS).
        name: what others are told, a flow run's name.

    Raises:
        WorkspaceBusyError: another process holds it; says which.
    """
    path = root.absolute() / _LOCK_PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorkspaceBusyError(
                f"{root.absolute()} is in use by {_holder(descriptor)}; nothing was run. "
                "Wait until it has ended, or use another clone or git worktree."
            ) from None
        holder = {
            "name": name,
            "process": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"{holder['name']} (process {holder['process']} on {holder['host']} since {holder['since']})"
    except (ValueError, KeyError, TypeError):  # it has just taken the lock and not signed yet
        return "another run"
