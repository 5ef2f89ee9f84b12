"""The result of `calico evaluate` as text for a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from calico.evaluation.metrics import EXTRA_METRICS, GLAMM_METRICS, METRICS, STRICT_METRICS

_FAMILIES = {"paper": METRICS, "labels": EXTRA_METRICS, "strict": STRICT_METRICS, "glamm": GLAMM_METRICS}
_NAME_WIDTH, _CELL_WIDTH, _WIDE_CELL_WIDTH = 17, 22, 29


def as_text(result: Mapping[str, Any]) -> str:
    """Lay out the result of `evaluate_files`: counts, a table for each family, and the differences."""
    return "\n".join(_lines(result))


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    width = _WIDE_CELL_WIDTH if "spread" in result else _CELL_WIDTH
    yield f"{result['test']['pairs']} pairs"
    for name, number in result["test"]["predictions"].items():
        left_out = {fault: count for fault, count in result["left_out"][name].items() if count}
        reasons = ", ".join(f"{fault} {count}" for fault, count in left_out.items()) or "none"
        yield f"{name}: {number} predictions, left out: {reasons}"
    if "runs" in result:
        yield f"{len(result['runs'])} runs of one model: mean, +- their standard deviation, [interval]"
    for title, family in _FAMILIES.items():
        names = [name for name in family if any(name in values for values in result["scores"].values())]
        if names:
            yield ""
            yield _row(title, list(result["scores"]), width)
            for name in names:
                yield _row(name, [_score(result, task, name) for task in result["scores"]], width)
    if "differences" in result:
        yield ""
        yield _row("difference", list(result["differences"]), width)
        for name in next(iter(result["differences"].values())):
            cells = [_difference(found.get(name)) for found in result["differences"].values()]
            yield _row(name, cells, width)


def _row(title: str, cells: list[str], width: int) -> str:
    return (title.ljust(_NAME_WIDTH) + "".join(cell.ljust(width) for cell in cells)).rstrip()


def _score(result: Mapping[str, Any], task: str, name: str) -> str:
    if name not in result["scores"][task]:
        return "-"
    text = f"{result['scores'][task][name]:.3f}"
    if "spread" in result:
        text += f" +-{result['spread'][task][name]:.3f}"
    if name in result["intervals"][task]:
        low, high = result["intervals"][task][name]
        text += f" [{low:.3f} {high:.3f}]"
    return text


def _difference(found: Mapping[str, Any] | None) -> str:
    return "-" if found is None else f"{found['difference']:+.3f} (p {found['p']:.3f})"
