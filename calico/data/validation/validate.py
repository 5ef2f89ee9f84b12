"""Validate a finished MixedParts: the folders unify/, curate/ and pair/ of a profile, rule by rule."""

from dataclasses import dataclass
from pathlib import Path

from calico.config import PairSection, UnifySection
from calico.data.validation.annotation_rules import check_annotations
from calico.data.validation.category_rules import check_categories, comparable_by_source, read_categories
from calico.data.validation.count_rules import check_counts
from calico.data.validation.files import SPLITS, UNIFIED, ImageFolders, check_files, read_unified
from calico.data.validation.pair_rules import PairLimits, PairRules
from calico.data.validation.row_rules import check_unified_rows
from calico.data.validation.rules import PROMISES, Rule, RuleBook
from calico.data.validation.text_rules import TextLimit, TextRules


@dataclass(frozen=True)
class Validation:
    """What was found; images are those that pairs show."""

    rules: tuple[Rule, ...]
    num_pairs: int
    num_images: int

    @property
    def num_violations(self) -> int:
        """Violations of all rules."""
        return sum(rule.num_violations for rule in self.rules)

    @property
    def num_rules(self) -> int:
        """Rules that were checked."""
        return sum(rule.num_checked is not None for rule in self.rules)


def validate(artifacts_path: Path, *, unify: UnifySection, pair: PairSection, text: TextLimit) -> Validation:
    """Check every rule of `PROMISES`.

    Where a unified table has not the columns of its kind, only the rules "files" and "schema" are checked;
    where a pair file has not, its pairs are left out.

    Args:
        artifacts_path: folder of the profile.
        unify, pair: the values that the data set was made with.
        text: how long a conversation may be.

    Raises:
        DataError: a table is missing: there is no finished data set.
    """
    artifacts_path, book = Path(artifacts_path), RuleBook()
    check_files(artifacts_path, book)
    unified = read_unified(artifacts_path, book["schema"])
    categories = read_categories(artifacts_path, book["schema"])
    if unified.keys() != UNIFIED.keys() or categories is None:
        return Validation(tuple(book), 0, 0)
    book.start(name for name in PROMISES if name != "counts")
    folders = ImageFolders(artifacts_path / "sources", unify)
    check_unified_rows(artifacts_path, unified, book["rows"])
    found = check_annotations(unified, unify, folders, book)
    check_categories(categories, found, book)
    pairs = PairRules(
        book, found, PairLimits(comparable_by_source(categories), pair.max_targets), TextRules(book, text)
    )
    for split in SPLITS:
        pairs.check_file(artifacts_path, split)
    pairs.finish()
    if not book["schema"].num_violations:
        check_counts(artifacts_path, unified, found, pairs, pair, book)
    num_images = len(set().union(*pairs.images.values()))
    return Validation(tuple(book), pairs.num_pairs.total(), num_images)
