"""SIGTERM and SIGINT end a training between two steps, so that it can write a checkpoint first."""

import signal
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


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
