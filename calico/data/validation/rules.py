"""The rules of a finished data set, and what breaks them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

# What must hold, and what is counted. The order is the order of the report.
PROMISES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "files": ("files", "are there and hold what their stage wrote"),
        "schema": ("columns", "have the names and types of the tables, without gaps"),
        "rows": (
            "rows",
            "of images, captions and pairs are below rows/, which training reads, as in parquet",
        ),
        "ids": ("ids", "stand for one row each"),
        "images": ("images", "have a size, a split and a file in the sources' folders"),
        "references": ("references", "point to rows, of the right image and object"),
        "masks": ("masks", "are whole and as large as their image"),
        "areas": ("masks", "have the stated area and box, and are not too small"),
        "containment": ("parts", "lie in their object, with at least half of their pixels"),
        "categories": ("category pairs", "are two categories of one source with the parts they share"),
        "leaks": ("images", "are in one split only"),
        "repeats": ("pairs", "are two images that no other pair of the task shows"),
        "limits": ("pairs", "have at least one target, not too many, and none twice"),
        "tasks": ("pairs", "have the targets that their task and images ask for, in order"),
        "conversations": (
            "pairs",
            "come back from their answer, target by target, in the order of the [SEG]",
        ),
        "lengths": ("pairs", "fit with any wording into what the models read"),
        "counts": ("counts", "are those of statistics.json, summary.json and params.yaml"),
    }
)
_MAX_OFFENDERS = 3


@dataclass
class Rule:
    """One rule while it is checked.

    Attributes:
        num_checked: None until the rule was looked at.
        offenders: the first ones, each with file and id.
        note: what to know about how it was checked.
    """

    name: str
    num_checked: int | None = None
    num_violations: int = 0
    offenders: list[str] = field(default_factory=list)
    note: str = ""

    def count(self, number: int = 1) -> None:
        """Count what was looked at."""
        self.num_checked = (self.num_checked or 0) + number

    def violate(self, offender: str) -> None:
        """Count a violation; the first ones are kept to be named."""
        self.num_violations += 1
        if len(self.offenders) < _MAX_OFFENDERS:
            self.offenders.append(offender)

    def lines(self) -> Iterator[str]:
        """Yield one line about the rule, then one for each offender that is named."""
        unit, promise = PROMISES[self.name]
        if self.num_checked is None:
            yield f"-       {self.name:13} not checked: the tables cannot be read as they are"
            return
        state = "broken" if self.num_violations else "ok"
        note = f" ({self.note})" if self.note else ""
        faults = f": {self.num_violations:,} violations" if self.num_violations else ""
        yield f"{state:6}  {self.name:13} {self.num_checked:,} {unit} {promise}{note}{faults}"
        yield from (f"          {offender}" for offender in self.offenders)
        if self.num_violations > len(self.offenders):
            yield f"          and {self.num_violations - len(self.offenders):,} more"


class RuleBook:
    """Every rule by name."""

    def __init__(self) -> None:
        self._rules = {name: Rule(name) for name in PROMISES}

    def __getitem__(self, name: str) -> Rule:
        return self._rules[name]

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules.values())

    def start(self, names: Iterable[str]) -> None:
        """Say that rules are being checked, so that none of anything is a result too."""
        for name in names:
            self._rules[name].count(0)
