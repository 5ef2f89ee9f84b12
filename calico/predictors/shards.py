"""Shards of a prediction run: finished ones stay on disk, so that an interrupted run goes on where it was.

They lie outside the stage's outputs, which DVC deletes before it runs a stage again, in a folder named after
everything that decides the result:

    <artifacts>/runs/predict-calico-0123456789ab/
        00000.masks.parquet
        00000.answers.parquet       written last: it marks the shard as complete
"""

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calico.core import tables
from calico.core.records import PredictedMask
from calico.errors import DataError
from calico.predictors.protocol import Prediction

_DIGITS = 12


@dataclass(frozen=True)
class ShardFolder:
    """The finished shards of one run."""

    path: Path

    @classmethod
    def of_run(cls, parent: Path, name: str, identity: Mapping[str, Any]) -> "ShardFolder":
        """Name the folder; nothing is written yet.

        Args:
            parent: of all run folders.
            name: stage and model, for people.
            identity: everything that decides the predictions; JSON values.
        """
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return cls(Path(parent) / f"{name}-{digest[:_DIGITS]}")

    def missing(self, num_shards: int) -> list[int]:
        """Return the indices of the shards that are not complete."""
        return [index for index in range(num_shards) if not self._answers_path(index).is_file()]

    def write(self, index: int, predictions: Sequence[Prediction]) -> None:
        """Write a shard; it is complete once both files are there."""
        masks = [mask for prediction in predictions for mask in prediction.masks]
        tables.write_predictions(self._masks_path(index), masks)
        tables.write_answers(self._answers_path(index), [prediction.answer for prediction in predictions])

    def read(self, index: int, pair_ids: Iterable[str]) -> list[Prediction]:
        """Read a complete shard, in the order it was written.

        Args:
            pair_ids: of its questions, in order.

        Raises:
            DataError: a file is damaged or answers other questions.
        """
        answers = tables.read_answers(self._answers_path(index))
        masks: dict[str, list[PredictedMask]] = defaultdict(list)
        for mask in tables.read_predictions(self._masks_path(index)):
            masks[mask.pair_id].append(mask)
        found, expected = [answer.pair_id for answer in answers], list(pair_ids)
        if found != expected or not masks.keys() <= set(expected):
            raise DataError(
                f"{self._answers_path(index)}: answers {len(found)} other questions than the {len(expected)} "
                f"of this shard. Delete {self.path} and run the stage again."
            )
        return [Prediction(answer, tuple(masks[answer.pair_id])) for answer in answers]

    def remove(self) -> None:
        """Delete all shards."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _masks_path(self, index: int) -> Path:
        return self.path / f"{index:05d}.masks.parquet"

    def _answers_path(self, index: int) -> Path:
        return self.path / f"{index:05d}.answers.parquet"
