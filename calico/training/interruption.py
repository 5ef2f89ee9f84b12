"""SIGTERM and SIGINT end a training between two steps, so that it can write a checkpoint first."""

import ctypes
import os
import signal
import sys
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A pipeline or a launcher set one of them. Who starts a training by hand may want it to outlive the shell.
_STARTED_BY = ("DVC_STAGE", "TORCHELASTIC_RUN_ID", "SLURM_PROCID")
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Let Linux send SIGTERM to this process when the pipeline or launcher that started it dies.

    Killed at once, they cannot end it themselves, and it would go on writing where the next run writes.
    """
    if sys.platform != "linux" or not any(name in os.environ for name in _STARTED_BY):
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died in between
        os.kill(os.getpid(), signal.SIGTERM)


class Interruption:
    """While entered, notes the first SIGTERM or SIGINT; the second acts as ever.

    Attributes:
        signal_number: of the noted signal, 0 before.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> "Interruption":
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
