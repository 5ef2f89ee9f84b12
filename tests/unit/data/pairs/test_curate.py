"""calico.data.pairs.curate: candidates by rule, decisions by review before rule."""

from pathlib import Path

import numpy as np
import pytest

from calico.config import CurateSection, PairSection
from calico.core import masks, tables
from calico.core.files import read_json
from calico.core.records import ImageRecord, ObjectInstance, PartInstance
from calico.data.pairs.category_pairs import CategoryPair, read_category_pairs, write_category_pairs
from calico.data.pairs.curate import category_parts, curate, decide
from calico.data.pairs.pairing import pair
from calico.data.pairs.review import Verdict, read_reviewed
from calico.errors import DataError

PARTS = {
    "a": {
        "dog": {"head", "body", "tail"},
        "snake": {"head", "body"},
        "mug": {"handle", "body"},
        "pipe": {"end"},
    },
    "b": {"chair": {"leg", "seat"}, "table": {"leg", "top"}},
}
RLE = masks.encode(np.ones((4, 4), dtype=bool))


def test_candidates_share_a_part_and_the_rule_decides() -> None:
    found = decide(PARTS, {}, min_jaccard=0.5)
    assert [(pair.source, pair.category_a, pair.category_b, pair.common_parts) for pair in found] == [
        ("a", "dog", "mug", ("body",)),
        ("a", "dog", "snake", ("body", "head")),
        ("a", "mug", "snake", ("body",)),
        ("b", "chair", "table", ("leg",)),
    ]
    assert [round(pair.jaccard, 4) for pair in found] == [0.25, 0.6667, 0.3333, 0.3333]
    assert [pair.is_kept for pair in found] == [False, True, False, False]


def test_review_overrides_the_rule_both_ways() -> None:
    reviewed = {
        ("a", "dog", "snake"): Verdict(("body", "head"), False, "one"),
        ("b", "chair", "table"): Verdict(("leg",), True, "two"),
    }
    decided = {(pair.category_a, pair.category_b): (pair.is_kept, pair.reason)
               for pair in decide(PARTS, reviewed, min_jaccard=0.5)}  # fmt: skip
    assert decided["dog", "snake"] == (False, "reviewed: one")
    assert decided["chair", "table"] == (True, "reviewed: two")
    assert decided["dog", "mug"] == (False, "rule: keep from Jaccard 0.5 on")


def test_same_name_in_two_sources_never_meets() -> None:
    assert decide({"a": {"dog": {"head"}}, "b": {"cat": {"head"}}}, {}, min_jaccard=0.0) == []


def test_csv_round_trips(tmp_path: Path) -> None:
    pairs = [
        CategoryPair("a", "dog", "pool, table", ("back pillow", "leg"), 0.25, True, 'because "so"'),
        CategoryPair("b", "bus", "car", ("door",), 1.0, False, "no"),
    ]
    write_category_pairs(tmp_path / "pairs.csv", pairs)
    assert read_category_pairs(tmp_path / "pairs.csv") == pairs


def test_damaged_category_pairs_are_named(tmp_path: Path) -> None:
    write_category_pairs(tmp_path / "p.csv", [CategoryPair("b", "bus", "car", ("door",), 1.0, False, "no")])
    (tmp_path / "p.csv").write_text((tmp_path / "p.csv").read_text().replace("1.000000", "all"))
    with pytest.raises(DataError, match=r"p\.csv: line 2: jaccard 'all'"):
        read_category_pairs(tmp_path / "p.csv")
    with pytest.raises(DataError, match=r"q\.csv: cannot be read \(No such file"):
        read_category_pairs(tmp_path / "q.csv")


def test_our_review_covers_the_drawn_categories() -> None:
    from calico.data.synthetic.catalogue import CATALOGUE

    parts = {source: {name: {part.name for part in specs} for name, specs in categories.items()}
             for source, categories in CATALOGUE.items()}  # fmt: skip
    reviewed = read_reviewed()
    candidates = decide(parts, reviewed, min_jaccard=0.2)
    assert all(pair.reason.startswith("reviewed: ") for pair in candidates)
    sources = {pair.source for pair in candidates}
    assert {pair.source for pair in candidates if pair.is_kept} == sources


def write_tables(folder: Path) -> None:
    """Write a dog with a head, a dog with a tail and a snake with a head."""
    names = {"1": ("dog", "head"), "2": ("dog", "tail"), "3": ("snake", "head")}
    tables.write_images(
        folder / "images.parquet",
        [ImageRecord(f"a/{key}", "a", f"{key}.png", 4, 4, "train") for key in names],
    )
    tables.write_objects(
        folder / "objects.parquet",
        [ObjectInstance(f"a/{key}#0", f"a/{key}", name, RLE) for key, (name, _) in names.items()],
    )
    tables.write_parts(
        folder / "parts.parquet",
        [
            PartInstance(f"a/{key}#0/x", f"a/{key}#0", f"a/{key}", part, RLE)
            for key, (_, part) in names.items()
        ],
    )


def test_stage_reads_tables_and_writes_its_files(tmp_path: Path) -> None:
    write_tables(tmp_path / "unify")
    assert category_parts(tmp_path / "unify") == {"a": {"dog": {"head", "tail"}, "snake": {"head"}}}
    summary = curate(CurateSection(reviewed=None, min_jaccard=0.5), tmp_path / "unify", tmp_path / "curate")
    assert (summary["num_candidates"], summary["num_kept"], summary["kept_by_rule"]) == (1, 1, 1)
    assert read_json(tmp_path / "curate" / "summary.json") == summary
    (pair,) = read_category_pairs(tmp_path / "curate" / "category_pairs.csv")
    assert pair == CategoryPair("a", "dog", "snake", ("head",), 0.5, True, "rule: keep from Jaccard 0.5 on")


def test_categories_that_share_nothing_leave_pairs_of_one_category(tmp_path: Path) -> None:
    """A category can always be compared with itself; a person may bring only one."""
    write_tables(tmp_path / "unify")
    section = CurateSection(reviewed=None, min_jaccard=0.6)
    summary = curate(section, tmp_path / "unify", tmp_path / "curate")
    assert (summary["num_candidates"], summary["num_kept"], summary["dropped_by_rule"]) == (1, 0, 1)
    pairs = {"train": {"common_objects": 1, "common_parts": 0, "unique_parts": 1}, "val": 0, "test": 0}
    values = PairSection.model_validate({"seed": 1, "num_pairs": pairs, "max_targets": 4})
    pair(values, tmp_path / "unify", tmp_path / "curate", tmp_path / "pair")
    found = tables.read_pairs(tmp_path / "pair" / "train.parquet")
    assert [set(one.image_ids) for one in found] == [{"a/1", "a/2"}] * 2


def test_a_persons_own_list_takes_the_place_of_ours(tmp_path: Path) -> None:
    write_tables(tmp_path / "unify")
    own_path = tmp_path / "own.csv"
    own_path.write_text(
        "source,category_a,category_b,common_parts,keep,reason\na,dog,snake,head,yes,I say so\n"
    )
    section = CurateSection(reviewed=str(own_path), min_jaccard=1.0)
    summary = curate(section, tmp_path / "unify", tmp_path / "curate")
    assert (summary["kept_by_review"], summary["kept_by_rule"]) == (1, 0)
    (pair,) = read_category_pairs(tmp_path / "curate" / "category_pairs.csv")
    assert pair.reason == "reviewed: I say so"
    own_path.write_text(own_path.read_text().replace("snake", "snke"))
    with pytest.raises(DataError, match=r"own\.csv: 1 pairs are of a category .* 'dog' and 'snke' of a"):
        curate(section, tmp_path / "unify", tmp_path / "curate")
    with pytest.raises(DataError, match=r"absent\.csv: cannot be read \(No such file"):
        curate(
            CurateSection(reviewed=str(tmp_path / "absent.csv"), min_jaccard=1.0),
            tmp_path / "unify",
            tmp_path / "curate",
        )
