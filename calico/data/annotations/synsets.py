"""PartImageNet's everyday names: from the synset that begins a file name to a category of Table 6.

Appendix A.2 takes the name from the class's path in WordNet: n02071294 (killer whale) gives "whale". The rule
here: the deepest node of the path with a name of Table 6 in the class's supercategory. Five classes that the
rule misses stand in `partimagenet_exceptions.csv` with a reason each; classes without a name are left out.
Sources of `partimagenet_synsets.csv`: supercategories and splits from the releases and from users of them,
paths from WordNet 3.0's is-a graph (as in MadryLab/BREEDS-Benchmarks), one name a node; a further name of a
node stands after "|" where Table 6 uses that one.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from calico.data.taxonomy import categories_of

_NODE_SEPARATOR = " > "
_NAME_SEPARATOR = "|"


@dataclass(frozen=True)
class Synset:
    """One of PartImageNet's 158 ImageNet classes.

    Attributes:
        supercategory: in lower case, as in Table 6.
        ood_split: split of the class in the OOD release, where no class is in two splits.
        num_images: in the Seg release.
        wordnet_path: the nodes from the root to the class, each as its names.
    """

    synset_id: str
    name: str
    supercategory: str
    ood_split: str
    num_images: int
    wordnet_path: tuple[tuple[str, ...], ...]


@cache
def synsets() -> Mapping[str, Synset]:
    """Return the 158 classes by synset id."""
    return MappingProxyType(
        {
            row["synset"]: Synset(
                row["synset"],
                row["name"],
                row["supercategory"].lower(),
                row["ood_split"],
                int(row["num_images"]),
                tuple(
                    tuple(node.split(_NAME_SEPARATOR)) for node in row["wordnet_path"].split(_NODE_SEPARATOR)
                ),
            )
            for row in _rows("partimagenet_synsets.csv")
        }
    )


@cache
def exceptions() -> Mapping[str, str]:
    """Return the category of the classes that the rule misses, by synset id."""
    return MappingProxyType({row["synset"]: row["category"] for row in _rows("partimagenet_exceptions.csv")})


@cache
def synset_categories() -> Mapping[str, str]:
    """Return the category of each of the 158 classes, "" for those that Table 6 leaves out."""
    return MappingProxyType(
        {synset_id: exceptions().get(synset_id) or name_by_path(one) for synset_id, one in synsets().items()}
    )


def name_by_path(synset: Synset) -> str:
    """Return the deepest name of Table 6 on the path, of the class's supercategory; "" where there is none.

    Source: appendix A.2.
    """
    wanted = _names_of(synset.supercategory)
    found = (name for node in reversed(synset.wordnet_path) for name in node if name in wanted)
    return next(found, "")


@cache
def _names_of(supercategory: str) -> frozenset[str]:
    categories = categories_of("partimagenet").values()
    return frozenset(one.name for one in categories if one.supercategory == supercategory)


def _rows(file_name: str) -> list[dict[str, str]]:
    with Path(__file__).with_name(file_name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
