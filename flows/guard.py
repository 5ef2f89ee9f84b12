"""Run one command and let nothing of it outlive the process that asked for it.

python -I flows/guard.py GRACE_SECONDS COMMAND [ARGUMENT ...]

Standard input is the line to that process: when it closes, however its owner ended, the command and all that
it started are ended, SIGTERM first. On Linux the guard adopts orphans, so it also finds those that left the
process group, as a launcher's workers do. It imports nothing of ours: it must start in a moment and never
fail.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

_PR_SET_CHILD_SUBREAPER = 36
_POLL_SECONDS = 0.05


def main(grace_seconds: str, *command: str) -> int:
    """Run `command` to its end, or until standard input closes.

    Args:
        grace_seconds: how long what is told to end (SIGTERM) may take before it is killed (SIGKILL).
        command: program and arguments.

    Returns:
        The command's exit code, 128 + the signal's number where a signal ended it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_wait_for_end_of_input, args=(stopping,), daemon=True).start()
    while process.poll() is None and not stopping.is_set():
        time.sleep(_POLL_SECONDS)
    _end_descendants(process, float(grace_seconds))
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _wait_for_end_of_input(stopping: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    stopping.set()


def _end_descendants(process: "subprocess.Popen[bytes]", grace_seconds: float) -> None:
    """Tell all descendants to end; kill those that have not after the grace."""
    for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        _signal_all(number, process)
        deadline = time.monotonic() + seconds
        while (_descendants() or process.poll() is None) and time.monotonic() < deadline:
            if number == signal.SIGKILL:
                _signal_all(number, process)  # what was forked in between
            _reap(process)
            time.sleep(_POLL_SECONDS)
        if not _descendants():
            break
    process.wait()


def _signal_all(number: signal.Signals, process: "subprocess.Popen[bytes]") -> None:
    for process_id in _descendants() or ([process.pid] if process.poll() is None else []):
        try:
            os.kill(process_id, number)
        except ProcessLookupError:
            continue


def _reap(process: "subprocess.Popen[bytes]") -> None:
    """Collect adopted orphans that have ended; the command's own end is Popen's to collect."""
    process.poll()
    for process_id in _descendants(zombies=True):
        if process_id != process.pid:
            try:
                os.waitpid(process_id, os.WNOHANG)
            except ChildProcessError:
                continue


def _descendants(zombies: bool = False) -> list[int]:
    """List the processes below this one: the living, or those that ended and were not collected."""
    children: dict[int, list[tuple[int, str]]] = {}
    for stat_path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat_path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it ended while we were looking
            continue
        children.setdefault(int(fields[1]), []).append((int(stat_path.parent.name), fields[0]))
    found, waiting = [], [os.getpid()]
    while waiting:
        for process_id, state in children.get(waiting.pop(), []):
            waiting.append(process_id)
            if (state in "ZX") == zombies:
                found.append(process_id)
    return found


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
