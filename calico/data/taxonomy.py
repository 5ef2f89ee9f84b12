"""The paper's Table 6: which parts the categories of each source have."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from calico.core.files import read_csv
from calico.errors import DataError

TAXONOMY_PATH = Path(__file__).with_name("taxonomy.csv")
_COLUMNS = ("dataset", "object", "supercategory", "parts")
_SOURCE_OF: Mapping[str, str] = MappingProxyType(
    {"ADE20K-Part234": "ade20k_part_234", "PACO-LVIS": "paco_lvis", "PartImageNet": "partimagenet"}
)

# Part names by source and category.
CategoryParts = Mapping[str, Mapping[str, set[str]]]


def read_taxonomy(path: Path = TAXONOMY_PATH) -> dict[str, dict[str, set[str]]]:
    """Read the part names of every category (the paper's Table 6), by source and category.

    Raises:
        DataError: the file is missing, lacks columns or names another source; names the line.
    """
    parts: dict[str, dict[str, set[str]]] = {}
    for line, row in enumerate(read_csv(path, _COLUMNS), start=2):
        if row["dataset"] not in _SOURCE_OF:
            raise DataError(
                f"{path}: line {line}: dataset must be one of {', '.join(_SOURCE_OF)}; "
                f"found {row['dataset']!r}."
            )
        parts.setdefault(_SOURCE_OF[row["dataset"]], {})[row["object"]] = set(row["parts"].split(";"))
    return parts
