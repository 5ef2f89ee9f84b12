"""Checkpoints of a training run: complete or not there, verified before use, removed once the run is done.

They lie outside the stage's outputs, which DVC deletes before it runs a stage again, in a folder named after
everything that decides the result. So an interrupted run goes on when it is started again, and a run with
other values starts from the beginning.

The checkpoint with the lowest validation loss stays until the run is done, however old it is.

    <artifacts>/runs/finetune-calico-0123456789ab/
        lock                      who trains here
        step-00000100/
            process-00000.safetensors   one per process
            log.jsonl                   the records of all steps so far
            manifest.json               written last, with the sha256 of the others
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from calico.core.files import atomic_path, read_json, verify_manifest, write_manifest, write_text
from calico.errors import CheckpointError, DataError, TrainingError
from calico.tracking import flatten
from calico.training.engine import TRAINED_PREFIX
from calico.training.step_log import StepRecord, best_step, read_record, write_record

_LOGGER = logging.getLogger(__name__)
_LOG_FILE = "log.jsonl"
_DIGITS = 12
_MAX_LISTED = 8


@dataclass(frozen=True)
class Checkpoint:
    """A moment of a training run.

    Attributes:
        records: of all steps so far; their number is the step.
        tensors: what one process needs to go on; see `Engine.state`.
    """

    records: Sequence[StepRecord]
    tensors: Mapping[str, Tensor]


class RunFolder:
    """The checkpoints of one run."""

    def __init__(self, parent: Path, name: str, identity: Mapping[str, Any], *, keep: int) -> None:
        """Name the folder; nothing is written yet.

        Args:
            parent: of all run folders.
            name: stage and model, for people.
            identity: everything that decides the result; JSON values.
            keep: how many checkpoints stay.
        """
        self._identity = json.loads(json.dumps(identity, sort_keys=True))
        digest = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()
        self._name = name
        self.path = Path(parent) / f"{name}-{digest[:_DIGITS]}"
        self._keep = keep

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training here.

        Raises:
            TrainingError: one does; names it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "a+", encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                stream.seek(0)
                raise TrainingError(
                    f"{self.path}: this very training already runs ({stream.read().strip()}). Wait for it, "
                    "or end it; then run again."
                ) from error
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}")
            stream.flush()
            yield

    def save(self, step: int, tensors: Mapping[str, Tensor], *, rank: int) -> None:
        """Write what process `rank` needs; the checkpoint counts only after `commit`.

        Raises:
            DataError: the disk is full; earlier checkpoints are untouched.
        """
        stored = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
        with atomic_path(self._step_path(step) / _process_file(rank)) as temporary:
            save_file(stored, temporary)

    def commit(self, records: Sequence[StepRecord]) -> None:
        """Complete the checkpoint of the last of `records`, once every process has saved; drop old ones."""
        folder = self._step_path(len(records))
        write_text(folder / _LOG_FILE, "".join(map(write_record, records)))
        write_manifest(folder, identity=self._identity)
        newest = self._step_paths()[-self._keep :]
        # A run may have to go on from any of these; so the best of each is kept.
        best = {best_step(records[: _step_of(path)]) for path in newest}
        for old in self._step_paths():
            if old not in newest and _step_of(old) not in best:
                shutil.rmtree(old)

    def latest(self, *, rank: int) -> Checkpoint | None:
        """Return the newest whole checkpoint; None if there is none.

        A damaged one is passed over with a warning, one that was never completed without.

        Raises:
            CheckpointError: the newest is of another run; names the differences.
        """
        for folder in reversed(self._step_paths()):
            if not (folder / "manifest.json").is_file():
                continue
            try:
                manifest = verify_manifest(folder)
                checkpoint = _read(folder, rank)
            except (DataError, CheckpointError) as error:
                _LOGGER.warning("%s The checkpoint before it is used, if there is one.", error)
                continue
            _check_identity(manifest.get("identity"), self._identity, folder)
            return checkpoint
        return None

    def trained(self, step: int) -> dict[str, Tensor]:
        """Return the trained tensors of the checkpoint of a step, by the model's own names.

        Raises:
            DataError, CheckpointError: it is missing or damaged.
        """
        verify_manifest(self._step_path(step))
        tensors = _read(self._step_path(step), 0).tensors
        return {
            name.removeprefix(TRAINED_PREFIX): tensor
            for name, tensor in tensors.items()
            if name.startswith(TRAINED_PREFIX)
        }

    def others(self) -> list[str]:
        """Describe checkpoints of the same stage and model, but of another run: where, and the difference."""
        found = []
        for folder in sorted(self.path.parent.glob(f"{self._name}-{'?' * _DIGITS}")):
            steps = sorted(folder.glob("step-????????/manifest.json"))
            if folder == self.path or not steps:
                continue
            try:
                stored = read_json(steps[-1]).get("identity")
            except DataError as error:
                _LOGGER.warning("%s", error)
                continue
            found.append(f"{steps[-1].parent} ({_differences(stored, self._identity)})")
        return found

    def remove(self) -> None:
        """Delete the checkpoints, once the run's result is written."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _step_path(self, step: int) -> Path:
        return self.path / f"step-{step:08d}"

    def _step_paths(self) -> list[Path]:
        return sorted(self.path.glob("step-????????"))


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _process_file(rank: int) -> str:
    return f"process-{rank:05d}.safetensors"


def _read(folder: Path, rank: int) -> Checkpoint:
    path = folder / _process_file(rank)
    try:
        tensors = load_file(path)
        lines = (folder / _LOG_FILE).read_text(encoding="utf-8").splitlines()
        return Checkpoint([*map(read_record, lines)], tensors)
    except (SafetensorError, OSError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of this version ({error}).") from error


def _check_identity(stored: Any, expected: Mapping[str, Any], folder: Path) -> None:
    if stored == expected:
        return
    raise CheckpointError(
        f"{folder}: a checkpoint of another run; different: {_differences(stored, expected)}. Delete "
        f"{folder.parent} to train from the beginning."
    )


def _differences(stored: Any, expected: Mapping[str, Any]) -> str:
    """Return what differs, as "dotted.name there -> here"."""
    there, here = (flatten(values) if isinstance(values, Mapping) else {} for values in (stored, expected))
    names = sorted(name for name in {*there, *here} if there.get(name) != here.get(name))
    listed = [f"{name} {there.get(name, 'none')} -> {here.get(name, 'none')}" for name in names]
    rest = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    return ", ".join(listed[:_MAX_LISTED]) + rest
