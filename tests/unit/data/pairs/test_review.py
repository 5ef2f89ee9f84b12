"""calico.data.pairs.review: 1,885 candidates from Table 6, each decided, and every fault named."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from calico.data.pairs.review import (
    REVIEWED_PATH,
    PairKey,
    Verdict,
    candidates,
    check_names,
    check_reviewed,
    main,
    read_reviewed,
)
from calico.data.taxonomy import parts_by_category
from calico.errors import DataError

HEADER = "source,category_a,category_b,common_parts,keep,reason\n"
ADE, PACO, PIN = "ade20k_part_234", "paco_lvis", "partimagenet"


def test_table_6_gives_the_papers_1885_candidates() -> None:
    """Appendix A.1."""
    found = Counter(source for (source, _, _), _ in candidates(parts_by_category()))
    assert found == {ADE: 319, PACO: 900, PIN: 666}
    assert found.total() == 1885


def test_our_list_decides_about_every_candidate() -> None:
    reviewed = read_reviewed()
    check_reviewed(reviewed, parts_by_category(), REVIEWED_PATH)
    assert len(reviewed) == 1885
    kept = Counter(source for (source, _, _), verdict in reviewed.items() if verdict.is_kept)
    assert kept == {ADE: 119, PACO: 133, PIN: 597}


@pytest.mark.parametrize(
    ("key", "is_kept"),
    [
        ((ADE, "armchair", "swivel chair"), True),
        ((ADE, "bed", "pool table"), True),
        ((ADE, "chair", "ottoman"), True),
        ((PIN, "airplane", "bird"), True),
        ((PIN, "dog", "snake"), True),
        ((ADE, "bus", "microwave"), False),
        ((PIN, "airplane", "boat"), True),
        ((PIN, "boat", "fish"), False),
        ((PACO, "shoe", "slipper"), True),
        ((PACO, "hat", "helmet"), True),
        ((PACO, "knife", "spoon"), True),
        ((PACO, "mug", "scissors"), False),
    ],
)
def test_our_list_follows_the_paper_and_common_sense(key: PairKey, is_kept: bool) -> None:
    assert read_reviewed()[key].is_kept is is_kept


def test_animals_are_compared_with_animals_and_with_no_vehicle_but_the_bird() -> None:
    verdicts = {key[1:]: verdict.is_kept for key, verdict in read_reviewed().items() if key[0] == PIN}
    vehicles = {"airplane", "boat"}
    kept_across = {
        names for names, is_kept in verdicts.items() if len(vehicles & set(names)) == 1 and is_kept
    }
    assert kept_across == {("airplane", "bird")}
    assert all(is_kept for names, is_kept in verdicts.items() if not vehicles & set(names))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("source,a,b\nx,y,z\n", "line 2: columns must be source, category_a, category_b, common_parts"),
        (HEADER + "a,dog,snake,head,yes\n", "line 2: columns must be"),
        (HEADER + "a,dog,snake,head,yes,ok,more\n", "line 2: columns must be"),
        (HEADER + "a,dog,snake,head,maybe,ok\n", "line 2: keep must be yes or no"),
        (HEADER + "a,dog,snake,head,yes,\n", "line 2: .* with a reason"),
        (HEADER + "a,snake,dog,head,yes,ok\n", "line 2: .* category_a before category_b"),
        (HEADER + "a,dog,snake,head,yes,ok\na,dog,snake,head,no,ok\n", "line 3: .* each pair once"),
        ("\x00" + HEADER, "not a csv file|line 2|columns must be"),
    ],
)
def test_damaged_list_is_named_with_its_line(content: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "reviewed.csv").write_text(content + ("" if "a,dog" in content else "a,b,c,d,e,f\n"))
    with pytest.raises(DataError, match=rf"reviewed\.csv: ({match})"):
        read_reviewed(tmp_path / "reviewed.csv")


@pytest.mark.parametrize("content", ["", "\n", HEADER, HEADER + "\n\n"])
def test_list_without_a_pair_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "reviewed.csv").write_text(content)
    with pytest.raises(DataError, match=r"reviewed\.csv: holds no pair\. Columns are source, category_a"):
        read_reviewed(tmp_path / "reviewed.csv")


def test_list_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    """Excel begins with a byte order mark and ends lines as Windows does; the parts stand in any order."""
    text = HEADER + "a,dog,snake,tail;head,yes,ok\n"
    (tmp_path / "reviewed.csv").write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert read_reviewed(tmp_path / "reviewed.csv") == {
        ("a", "dog", "snake"): Verdict(("head", "tail"), True, "ok")
    }


PARTS = {"a": {"dog": {"head", "tail"}, "snake": {"head"}, "mug": {"handle"}}}
GOOD = {("a", "dog", "snake"): Verdict(("head",), True, "animals")}


@pytest.mark.parametrize(
    ("reviewed", "match"),
    [
        ({}, "1 pairs are not in the list, .*; first 'dog' and 'snake' of a"),
        (
            {**GOOD, ("a", "dog", "mug"): GOOD["a", "dog", "snake"]},
            "1 pairs are listed, but no two .* 'dog' and 'mug'",
        ),
        (
            {key: replace(verdict, common_parts=("head", "tail")) for key, verdict in GOOD.items()},
            "1 pairs are listed with other common parts than the taxonomy's; first 'dog' and 'snake'",
        ),
    ],
)
def test_list_that_is_not_the_taxonomys_is_refused(reviewed: dict[PairKey, Verdict], match: str) -> None:
    check_reviewed(GOOD, PARTS, Path("own.csv"))
    with pytest.raises(DataError, match=rf"own\.csv: {match}"):
        check_reviewed(reviewed, PARTS, Path("own.csv"))


@pytest.mark.parametrize(
    "key", [("a", "dgo", "snake"), ("b", "dog", "snake"), ("a", "dog", "snake "), (PACO, "mug", "spon")]
)
def test_misspelt_category_of_a_persons_list_is_named(key: PairKey) -> None:
    good = GOOD | {(PACO, "mug", "spoon"): GOOD["a", "dog", "snake"]}
    check_names(good, PARTS, Path("own.csv"))
    with pytest.raises(DataError, match=rf"own\.csv: 1 pairs are of a category .* '{key[1]}' and '{key[2]}'"):
        check_names(good | {key: GOOD["a", "dog", "snake"]}, PARTS, Path("own.csv"))


def test_command_leaves_a_persons_own_categories_to_curate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.csv").write_text(REVIEWED_PATH.read_text() + "kitchen,pan,pot,handle,yes,mine\n")
    main([str(tmp_path / "own.csv")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("own.csv: 1885 candidate pairs, 849 kept, all as in the taxonomy.")
    assert lines[1] == "1 more of kitchen: the stage curate knows their categories."


def test_command_checks_ours_or_another_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert "comparable.csv: 1885 candidate pairs, 849 kept" in capsys.readouterr().out
    own_path = tmp_path / "own.csv"
    own_path.write_text("".join(REVIEWED_PATH.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(SystemExit, match="2"):
        main([str(own_path)])
    assert "error: " in (message := capsys.readouterr().err)
    assert "own.csv: 1 pairs are not in the list" in message
