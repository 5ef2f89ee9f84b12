"""Run a command so that nothing of it stays behind.

dvc starts a shell, the shell a stage, the stage its workers: a signal to the first of them leaves the others
running, and the next run would write to the same files. All share one process group, below a guard that ends
them when the command ends, when it is told to, and when this process is gone.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_GRACE_SECONDS = 10.0
_NUM_LAST_LINES = 15
_GUARD_PATH = Path(__file__).with_name("guard.py")
_running: "set[subprocess.Popen[str]]" = set()


class CommandError(RuntimeError):
    """A command ended with an exit code other than 0."""


class DeadlineError(CommandError):
    """A command took longer than it may and was ended."""


def run_command(
    command: Sequence[str],
    folder: Path,
    log: Callable[[str], object],
    *,
    environment: Mapping[str, str] | None = None,
    deadline_seconds: float | None = None,
    keep_open: Sequence[int] = (),
) -> None:
    """Run `command` in a process group of its own and pass on its output line by line.

    However this ends (success, failure, an exception in the middle, a cancelled flow, kill -9 of this
    process), all that the command started ends too.

    Args:
        command: program and arguments.
        folder: working directory.
        log: is given each line of stdout and stderr.
        environment: all environment variables; None for those of this process.
        deadline_seconds: how long the command may take; None for as long as it likes.
        keep_open: file descriptors that stay open until nothing of the command is left, locks among them.

    Raises:
        CommandError: the exit code is not 0; holds the last lines of the output.
        DeadlineError: the command was still running at its deadline.
    """
    last_lines: deque[str] = deque(maxlen=_NUM_LAST_LINES)
    is_late = threading.Event()
    process = subprocess.Popen(
        [sys.executable, "-I", str(_GUARD_PATH), str(_GRACE_SECONDS), *command],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=tuple(keep_open),
    )
    _running.add(process)
    timer = threading.Timer(deadline_seconds or 0, _end_late, (process, is_late))
    timer.daemon = True
    if deadline_seconds is not None:
        timer.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            log(line.rstrip())
            last_lines.append(line)
        code = process.wait()
    finally:
        timer.cancel()
        end_group(process)
        _running.discard(process)
    text = " ".join(command)
    if is_late.is_set():
        raise DeadlineError(f"'{text}' took longer than {deadline_seconds:g} s and was ended.")
    if code != 0:
        raise CommandError(f"'{text}' ended with exit code {code}:\n{''.join(last_lines)}")


def end_group(process: "subprocess.Popen[str]") -> None:
    """End a guard and its command: SIGTERM first, SIGKILL to what is left of the group after some seconds."""
    if process.stdin is not None:
        process.stdin.close()  # the guard ends its command
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS + 5.0)
    # Only where the guard itself was killed is anything left.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_all() -> None:
    """End every command that this process runs, whatever thread waits for it."""
    for process in list(_running):
        end_group(process)


def _end_late(process: "subprocess.Popen[str]", is_late: threading.Event) -> None:
    is_late.set()
    end_group(process)
