"""Score CALICO beside itself without a module, on the same test pairs: Table 2 and figure 8."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calico.config import EvaluateSection
from calico.core import tables
from calico.core.files import write_json
from calico.evaluation.cases import read_truth
from calico.evaluation.compare import compare, measure_compared
from calico.evaluation.evaluate import count_test, define, read_test_pairs, select, uncertainty
from calico.evaluation.metrics import METRICS, STRICT_METRICS
from calico.evaluation.metrics.text_similarity import find_text_model, load_text_model
from calico.evaluation.scoring import combine, flatten
from calico.tracking import Run

FULL_MODEL = "calico"


def evaluate_ablations(
    section: EvaluateSection,
    *,
    ablations: Sequence[str],
    pair_path: Path,
    unify_path: Path,
    predict_path: Path,
    output_path: Path,
    run: Run,
) -> dict[str, Any]:
    """Score the full model and its ablations; write metrics.json.

    Args:
        ablations: names of folders in `predict_path`, beside the full model's.
        pair_path, unify_path: folders of the stages of these names.
        run: receives the scores.

    Returns:
        The content of metrics.json, as `evaluate` writes it but for floors and what only it counts;
        `differences` are each ablation minus the full model.

    Raises:
        DataError: a file is missing or belongs to other pairs, a task has no test pairs, or the text model is
            not installed.
    """
    text_model_path = find_text_model(section.text_model)
    pairs, truth = read_test_pairs(pair_path), read_truth(unify_path)
    names = (FULL_MODEL, *ablations)
    compared = compare(
        {name: tables.read_predictions(predict_path / name / "predictions.parquet") for name in names},
        pairs,
        truth,
        embed=load_text_model(text_model_path),
        is_file_order_needed=False,
    )
    measured = {name: measure_compared(found, section) for name, found in compared.items()}
    scores = {name: combine(measurements) for name, measurements in measured.items()}
    metrics = {
        "models": {name: select(scores[name], METRICS) for name in names},
        "strict": {name: select(scores[name], STRICT_METRICS) for name in names},
        **uncertainty(section, scores, measured, compared=[(name, FULL_MODEL) for name in ablations]),
        "test": count_test(pairs),
        "definitions": define(section, text_model_path),
    }
    write_json(output_path / "metrics.json", metrics)
    run.log_metrics(flatten(metrics))
    return metrics
