"""Rules of the counts: the files hold what their stages say, and what params.yaml asks for."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from calico.config import PairSection
from calico.core.files import read_json
from calico.core.tokens import TASKS
from calico.data.validation.annotation_rules import Annotations
from calico.data.validation.files import SPLITS
from calico.data.validation.pair_rules import PairRules
from calico.data.validation.rules import Rule, RuleBook
from calico.errors import DataError


def check_counts(
    artifacts_path: Path,
    unified: Mapping[str, pa.Table],
    found: Annotations,
    pairs: PairRules,
    section: PairSection,
    book: RuleBook,
) -> None:
    """Compare counts of the files with statistics.json and summary.json, and pairs with the quotas.

    Args:
        section: pairs per task and split; what statistics.json counts as missing is allowed to be.
    """
    rule = book["counts"]
    summary = _read(artifacts_path, "unify/summary.json", rule)
    for place, number in _instances(unified, found).items():
        _compare("unify/summary.json", f"counts.{place}", summary, number, rule)
    statistics = _read(artifacts_path, "pair/statistics.json", rule)
    for place, number in _pair_counts(pairs).items():
        _compare("pair/statistics.json", place, statistics, number, rule)
    _check_quotas(statistics, pairs, section, rule)
    shares: Counter[str] = Counter()
    for (_, source, task), number in pairs.num_pairs.items():
        shares[f"{source}/{task}"] += number
    rule.note = ", ".join(f"{name} {number:,}" for name, number in sorted(shares.items()))


def _instances(unified: Mapping[str, pa.Table], found: Annotations) -> Counter[str]:
    counts: Counter[str] = Counter()
    for kind, table in unified.items():
        for image_id in table["image_id"].to_pylist():
            if image_id in found.scenes:
                scene = found.scenes[image_id]
                counts[f"{scene.source}.{scene.split}.{kind}"] += 1
    return counts


def _pair_counts(pairs: PairRules) -> dict[str, int]:
    counts: dict[str, int] = {"all.num_images": len(set().union(*pairs.images.values()))}
    counts["all.num_pairs"] = pairs.num_pairs.total()
    totals: Counter[str] = Counter()
    for (split, source, task), number in pairs.num_pairs.items():
        totals[f"splits.{split}.num_pairs"] += number
        totals[f"splits.{split}.pairs_by_source.{source}.{task}"] += number
        totals[f"splits.{split}.instances_per_sample.{task}.samples"] += number
    for (split, _, task), number in pairs.num_targets.items():
        totals[f"splits.{split}.instances_per_sample.{task}.total"] += number
    return counts | totals


def _check_quotas(statistics: Any, pairs: PairRules, section: PairSection, rule: Rule) -> None:
    for split in SPLITS:
        made: dict[str, int] = defaultdict(int)
        for (of_split, _, task), number in pairs.num_pairs.items():
            made[task] += number if of_split == split else 0
        missing = _at(statistics, f"missing.{split}")
        for task in TASKS:
            lost = sum(
                number
                for name, number in (missing.items() if isinstance(missing, dict) else ())
                if str(name).endswith(f"/{task}") and isinstance(number, int)
            )
            rule.count()
            asked = section.num_pairs.of(split, task)
            if made[task] + lost != asked:
                rule.violate(
                    f"pair/{split}.parquet: {made[task]} pairs of {task} and {lost} counted as missing, but "
                    f"pair.num_pairs.{split} is {asked}."
                )


def _read(artifacts_path: Path, name: str, rule: Rule) -> Any:
    try:
        return read_json(artifacts_path / name)
    except DataError as error:
        rule.violate(str(error))
        return {}


def _compare(name: str, place: str, stated: Any, number: int, rule: Rule) -> None:
    rule.count()
    value = _at(stated, place)
    if value != number:
        rule.violate(f"{name}: {place} is {value}, the files hold {number}.")


def _at(value: Any, place: str) -> Any:
    for key in place.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value
