"""Run a command so that nothing of it stays behind.

dvc starts a shell, the shell a stage, the stage its workers: a signal to the first of them leaves the others
running, and the next run would write to the same files. All share one process group; it is ended as a whole.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_GRACE_SECONDS = 10.0
_NUM_LAST_LINES = 15


class CommandError(RuntimeError):
    """A command ended with an exit code other than 0."""


def run_command(
    command: Sequence[str],
    folder: Path,
    log: Callable[[str], object],
    *,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run `command` in a process group of its own and pass on its output line by line.

    However this ends (success, failure, an exception in the middle, a cancelled flow), the group ends too.

    Args:
        command: program and arguments.
        folder: working directory.
        log: is given each line of stdout and stderr.
        environment: all environment variables; None for those of this process.

    Raises:
        CommandError: the exit code is not 0; holds the last lines of the output.
    """
    last_lines: deque[str] = deque(maxlen=_NUM_LAST_LINES)
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            log(line.rstrip())
            last_lines.append(line)
        code = process.wait()
    finally:
        end_group(process)
    if code != 0:
        raise CommandError(f"'{' '.join(command)}' ended with exit code {code}:\n{''.join(last_lines)}")


def end_group(process: "subprocess.Popen[str]") -> None:
    """End what is left of a process group: SIGTERM first, SIGKILL after some seconds."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
