"""The record of every training step: log.jsonl, the tracker, and a progress bar on stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from calico.config import TrainSection
from calico.tracking import Run


@dataclass(frozen=True)
class ValidationRecord:
    """What a model reaches on the validation pairs; losses as in `StepRecord`, means over all of them.

    Attributes:
        mean_iou: of the masks of the true answers' [SEG] tokens.
        seconds: wall time.
    """

    loss: float
    text: float
    mask: float
    dice: float
    mean_iou: float
    seconds: float


@dataclass(frozen=True)
class StepRecord:
    """One line of log.jsonl; losses are means over the step's micro-batches, before weighting but for `loss`.

    Attributes:
        step: 1-based.
        loss: weighted sum.
        lr: learning rate of the step.
        grad_norm: before clipping.
        seconds: wall time of the step.
        samples_per_second: of all processes together.
        data_share, encode_share, forward_share, backward_share, optimizer_share: parts of `seconds` in this
            process: waiting for batches; image features, from the cache or the encoders; the model with its
            losses; gradients; clipping and update. They add up to 1.
        validation: after the step, where one was due.
    """

    step: int
    loss: float
    text: float
    mask: float
    dice: float
    lr: float
    grad_norm: float
    seconds: float
    samples_per_second: float
    data_share: float
    encode_share: float
    forward_share: float
    backward_share: float
    optimizer_share: float
    validation: ValidationRecord | None = None


def write_record(record: StepRecord) -> str:
    """Return a record as a line of JSON."""
    return json.dumps(asdict(record)) + "\n"


def read_record(line: str) -> StepRecord:
    """Return the record of a line.

    Raises:
        TypeError, ValueError: another version wrote the line.
    """
    values = json.loads(line)
    validation = values.pop("validation")
    return StepRecord(**values, validation=ValidationRecord(**validation) if validation else None)


def best_step(records: Iterable[StepRecord]) -> int | None:
    """Return the step with the lowest validation loss, the first of equal ones; None without validation."""
    validated = [(one.validation.loss, one.step) for one in records if one.validation is not None]
    return min(validated)[1] if validated else None


class StepLog:
    """Writes records to log.jsonl, to the tracker and to stderr."""

    def __init__(
        self,
        path: Path,
        run: Run,
        section: TrainSection,
        *,
        is_writer: bool,
        earlier: Sequence[StepRecord] = (),
    ) -> None:
        """Remember where to write; the file is opened on entry.

        Args:
            path: log.jsonl.
            run: receives the means over every `section.log_every` steps.
            is_writer: False makes every method do nothing.
            earlier: records of the steps before an interruption; written again, not reported again.
        """
        self._path = path
        self._run = run
        self._section = section
        self._is_writer = is_writer
        self._earlier = earlier
        self._stream: TextIO | None = None
        self._bar: tqdm | None = None
        self._recent: list[StepRecord] = []

    def __enter__(self) -> "StepLog":
        if self._is_writer:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # A stream, not an artefact: it grows with the run; the folder's manifest marks it as complete.
            self._stream = self._path.open("w", encoding="utf-8", buffering=1)
            self._bar = tqdm(
                total=self._section.num_steps,
                initial=len(self._earlier),
                unit="step",
                disable=not sys.stderr.isatty(),
            )
            for record in self._earlier:
                self._write(record)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._stream is not None:
            self._stream.close()
        if self._bar is not None:
            self._bar.close()

    def add(self, record: StepRecord) -> None:
        """Write one record; report the recent ones if their turn has come."""
        if self._stream is None or self._bar is None:
            return
        self._write(record)
        self._bar.update()
        self._recent.append(record)
        if len(self._recent) == self._section.log_every or record.step == self._section.num_steps:
            self._report(record.step, _means(self._recent))
            self._recent.clear()
        if record.validation is not None:
            named = asdict(record.validation).items()
            self._report(record.step, {f"validation_{name}": value for name, value in named})

    def _write(self, record: StepRecord) -> None:
        assert self._stream is not None
        self._stream.write(write_record(record))

    def _report(self, step: int, means: dict[str, float]) -> None:
        self._run.log_metrics(means, step=step)
        if not sys.stderr.isatty():
            line = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
            sys.stderr.write(f"step {step}/{self._section.num_steps}  {line}\n")
        elif self._bar is not None and "lr" in means:
            self._bar.set_postfix(loss=f"{means['loss']:.3f}", lr=f"{means['lr']:.1e}")


def _means(records: list[StepRecord]) -> dict[str, float]:
    names = [name for name in asdict(records[0]) if name not in ("step", "validation")]
    return {name: sum(getattr(record, name) for record in records) / len(records) for name in names}
