"""Where the time of a training step goes."""

import time

import torch


class Stopwatch:
    """Adds up the seconds between calls of `lap` under the names it is given."""

    def __init__(self, device: torch.device) -> None:
        """Start.

        Args:
            device: a CUDA device computes behind the program; each lap waits for it.
        """
        self._device = device
        self.seconds: dict[str, float] = {}
        self._last = self._now()

    def lap(self, name: str) -> None:
        """Count the time since the last lap, or since the start, as `name`."""
        now = self._now()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now

    @property
    def total(self) -> float:
        """Seconds of all laps."""
        return sum(self.seconds.values())

    def share(self, name: str) -> float:
        """Return the part of the total that laps of this name took, in [0, 1]."""
        return self.seconds.get(name, 0.0) / self.total

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
