"""Read the logs of the training stages into curves."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calico.errors import DataError

MAX_POINTS = 80
LOSSES = ("text", "mask", "dice")
VALIDATIONS = ("loss", "mean_iou")

Curve = list[tuple[float, float]]


def read_curves(log_paths: Mapping[str, Path]) -> dict[str, dict[str, Curve]]:
    """Read the losses of several runs.

    Args:
        log_paths: log.jsonl by model.

    Returns:
        Loss to model to (step, loss) points: means over at most `MAX_POINTS` equal stretches of the run.

    Raises:
        DataError: a log is missing, empty or damaged.
    """
    logs = {model: _read_log(path) for model, path in log_paths.items()}
    return {
        name: {
            model: _thin_out([record["step"] for record in log], [record[name] for record in log])
            for model, log in logs.items()
        }
        for name in LOSSES
    }


def read_validations(log_paths: Mapping[str, Path]) -> dict[str, dict[str, Curve]]:
    """Read what several runs reached on their validation pairs.

    Returns:
        Loss (the weighted sum) and mean IoU to model to (step, value) points; only models that validated, and
        nothing if none did.

    Raises:
        DataError: a log is missing, empty or damaged.
    """
    logs = {model: _read_log(path) for model, path in log_paths.items()}
    found = {model: [record for record in log if record.get("validation")] for model, log in logs.items()}
    validated = {model: records for model, records in found.items() if records}
    return {
        name: {
            model: [(float(one["step"]), float(one["validation"][name])) for one in records]
            for model, records in validated.items()
        }
        for name in (VALIDATIONS if validated else ())
    }


def _read_log(path: Path) -> list[dict[str, Any]]:
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Run the stage that writes it.") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: a line is not JSON ({error}). Run the stage that writes it again."
        ) from error
    if not records or any(name not in record for record in records for name in ("step", *LOSSES)):
        raise DataError(
            f"{path}: {len(records)} lines, of which every one must have step, {', '.join(LOSSES)}. "
            "Run the stage that writes it again."
        )
    return records


def _thin_out(steps: Sequence[float], values: Sequence[float]) -> Curve:
    num_points = min(MAX_POINTS, len(steps))
    stretches = zip(np.array_split(steps, num_points), np.array_split(values, num_points), strict=True)
    return [(float(x.mean()), float(y.mean())) for x, y in stretches]
