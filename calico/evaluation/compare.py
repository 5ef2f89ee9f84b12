"""Compare several sets of predictions with the truth at once; labels are embedded a single time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from calico.config import EvaluateSection
from calico.core.records import PairSample, PredictedMask
from calico.core.tokens import TASKS
from calico.evaluation.cases import (
    PairCase,
    PredictionGroups,
    Truth,
    build_cases,
    normalise_label,
    usable_predictions,
)
from calico.evaluation.metrics import GLAMM_METRICS
from calico.evaluation.metrics.text_similarity import Embed, TextSimilarity
from calico.evaluation.scoring import Measured, measure


@dataclass(frozen=True)
class Compared:
    """One set of predictions beside the truth.

    Attributes:
        cases: one a pair, by pair id; predictions best score first.
        file_cases: the same with predictions in the order of the file; empty where nobody asked.
        num_unusable: predictions left out, for each of `FAULTS`.
    """

    cases: Sequence[PairCase]
    file_cases: Sequence[PairCase]
    num_unusable: Mapping[str, int]


def compare(
    predictions: Mapping[str, Sequence[PredictedMask]],
    pairs: Sequence[PairSample],
    truth: Truth,
    *,
    embed: Embed,
    is_file_order_needed: bool,
) -> dict[str, Compared]:
    """Compare each named set of predictions with the true masks of the pairs.

    Args:
        is_file_order_needed: also keep the order of the file, for the `glamm` metrics.

    Raises:
        DataError: a prediction belongs to another pair, or a pair to other tables.
    """
    ranked = {name: usable_predictions(found, pairs, truth) for name, found in predictions.items()}
    similarity = TextSimilarity(_all_labels(pairs, [groups for groups, _ in ranked.values()]), embed)
    compared = {}
    for name, (groups, num_unusable) in ranked.items():
        file_cases = []
        if is_file_order_needed:
            unranked, _ = usable_predictions(predictions[name], pairs, truth, is_file_order_kept=True)
            file_cases = build_cases(pairs, truth, unranked, similarity)
        compared[name] = Compared(build_cases(pairs, truth, groups, similarity), file_cases, num_unusable)
    return compared


def measure_compared(
    compared: Compared, section: EvaluateSection, *, tasks: Sequence[str] = TASKS
) -> Measured:
    """Measure all metrics, those of `GLAMM_METRICS` only where the order of the file was kept.

    Raises:
        DataError: a task has no pairs.
    """
    measured = measure(compared.cases, section, tasks=tasks)
    if not compared.file_cases:
        return measured
    released = measure(compared.file_cases, section, tasks=tasks, metrics=GLAMM_METRICS)
    return {task: {**measured[task], **released[task]} for task in tasks}


def _all_labels(pairs: Iterable[PairSample], usable: Iterable[PredictionGroups]) -> set[str]:
    true = {target.label for pair in pairs for target in pair.targets}
    predicted = {mask.label for groups in usable for group in groups.values() for mask in group}
    return {normalise_label(label) for label in true | predicted}
