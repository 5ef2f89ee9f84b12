"""Score 1,000 pairs beside a GLaMM-shaped loop and COCOeval: `python -m benchmarks.evaluation`.

The last line is one JSON object; benchmarks/README.md says what its figures mean.
"""

import contextlib
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

# One thread a side, before numpy and torch start their own.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.evaluation_world import NUM_PAIRS, write_world
from benchmarks.glamm_shaped import miou_and_recall
from calico.config import EvaluateSection, load_config
from calico.errors import CalicoError
from calico.evaluation.cases import PairCase, build_cases, read_truth, usable_predictions
from calico.evaluation.compare import compare
from calico.evaluation.external import evaluate_files, read_pairs, read_predictions
from calico.evaluation.metrics import GLAMM_METRICS
from calico.evaluation.metrics.ap50 import combine_ap50, measure_ap50
from calico.evaluation.metrics.class_ap50 import combine_class_ap50, measure_class_ap50
from calico.evaluation.metrics.text_similarity import Embed, find_text_model, load_text_model

_SEED = 0
_NUM_ROUNDS = 7
_NUM_SAMPLED_PAIRS = 8
_TOLERANCE = 1e-9


def main() -> None:
    """Measure and print; stop with one sentence where the text model is missing."""
    section = load_config("tiny").evaluate
    try:
        embed = load_text_model(find_text_model(section.text_model))
    except CalicoError as error:
        sys.exit(f"error: {error}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_world(folder, seed=_SEED)
        result = _measure(folder, section, embed)
    sys.stdout.write(json.dumps(result) + "\n")


def _measure(folder: Path, section: EvaluateSection, embed: Embed) -> dict[str, float]:
    sample = _Sample(folder, embed)
    _check_sample(sample, folder, section, embed)
    sides: dict[str, Callable[[], Any]] = {
        "both_families": lambda: evaluate_files(
            section, **_inputs(folder, "predictions.parquet"), embed=embed
        ),
        "glamm_shaped": sample.score,
        "our_ap50": lambda: _our_ap50(folder, section),
        "cocoeval": lambda: _cocoeval_ap50(folder),
    }
    difference = max(
        abs(ours - theirs)
        for ours, theirs in (
            (_our_ap50(folder, section), _cocoeval_ap50(folder)),
            (_our_class_ap50(folder, section), _cocoeval_ap50(folder, is_by_label=True)),
        )
    )
    if difference > _TOLERANCE:
        sys.exit(f"error: our AP50 and COCOeval's differ by {difference}; there is nothing to time.")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(_NUM_ROUNDS):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    scale = NUM_PAIRS / _NUM_SAMPLED_PAIRS
    seconds["glamm_shaped"] = [scale * one for one in seconds["glamm_shaped"]]
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    _print_sides(seconds)
    return {
        "seconds_both_families": round(medians["both_families"], 3),
        "vs_glamm_shaped": round(medians["glamm_shaped"] / medians["both_families"], 1),
        "vs_cocoeval_ap50": round(medians["cocoeval"] / medians["our_ap50"], 2),
        "max_abs_difference_to_cocoeval": difference,
    }


class _Sample:
    """The first pairs as the GLaMM-shaped loop reads them: it still searches all annotations."""

    def __init__(self, folder: Path, embed: Embed) -> None:
        content = json.loads((folder / "truth.json").read_text())
        self._truth = content["annotations"]
        self._results = json.loads((folder / "results.json").read_text())
        self._names = {category["id"]: category["name"] for category in content["categories"]}
        pair_ids = sorted({image["pair_id"] for image in content["images"]})[:_NUM_SAMPLED_PAIRS]
        self._image_ids = [image["id"] for image in content["images"] if image["pair_id"] in pair_ids]
        self._embed = embed
        self.pair_ids = set(pair_ids)

    def score(self) -> tuple[float, float]:
        return miou_and_recall(
            self._image_ids, self._truth, self._results, names=self._names, embed=self._embed
        )


def _check_sample(sample: _Sample, folder: Path, section: EvaluateSection, embed: Embed) -> None:
    """Check that the GLaMM-shaped loop and our `glamm` family give the same two numbers."""
    pairs = [pair for pair in read_pairs(folder / "pair" / "test.parquet") if pair.pair_id in sample.pair_ids]
    masks = [
        mask
        for mask in read_predictions(folder / "predictions.parquet", pairs)
        if mask.pair_id in sample.pair_ids
    ]
    compared = compare(
        {"ours": masks}, pairs, read_truth(folder / "unify"), embed=embed, is_file_order_needed=True
    )
    ours = []
    for name in ("glamm_mIoU", "glamm_Recall"):
        metric = GLAMM_METRICS[name]
        measured = [metric.measure(case, section) for case in compared["ours"].file_cases]
        ours.append(float(metric.combine(measured, np.ones((1, len(measured))))[0]))
    theirs = sample.score()
    if max(abs(np.subtract(ours, theirs))) > _TOLERANCE:
        sys.exit(
            f"error: mIoU and Recall are {ours} here and {theirs} in the loop; there is nothing to time."
        )


def _inputs(folder: Path, name: str) -> dict[str, Any]:
    return {
        "paths": [folder / name],
        "pairs_path": folder / "pair" / "test.parquet",
        "truth_path": folder / "unify",
    }


def _our_ap50(folder: Path, section: EvaluateSection) -> float:
    """Read the COCO results and score AP50 over all pairs, whatever their task."""
    cases = _our_cases(folder)
    detections = [measure_ap50(case, section) for case in cases]
    return float(combine_ap50(detections, np.ones((1, len(cases))))[0])


def _our_class_ap50(folder: Path, section: EvaluateSection) -> float:
    cases = _our_cases(folder)
    detections = [measure_class_ap50(case, section) for case in cases]
    return float(combine_class_ap50(detections, np.ones((1, len(cases))))[0])


def _our_cases(folder: Path) -> list[PairCase]:
    pairs, truth = read_pairs(folder / "pair" / "test.parquet"), read_truth(folder / "unify")
    groups, _ = usable_predictions(read_predictions(folder / "results.json", pairs), pairs, truth)
    return build_cases(pairs, truth, groups, lambda labels, others: np.zeros((len(labels), len(others))))


def _cocoeval_ap50(folder: Path, *, is_by_label: bool = False) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "truth.json"))
        evaluator = COCOeval(truth, truth.loadRes(str(folder / "results.json")), "segm")
        evaluator.params.useCats = int(is_by_label)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return float(evaluator.stats[1])


def _print_sides(seconds: dict[str, list[float]]) -> None:
    sides = {
        name: {"min": round(min(found), 4), "median": round(statistics.median(found), 4)}
        for name, found in seconds.items()
    }
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "versions": {
            name: version(name) for name in ("numpy", "pycocotools", "torch", "sentence-transformers")
        },
    }
    sys.stdout.write(json.dumps({"seconds": sides, **machine}) + "\n")


if __name__ == "__main__":
    main()
