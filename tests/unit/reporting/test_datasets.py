import pytest

from calico.core.files import read_json
from calico.reporting import datasets


@pytest.fixture
def statistics(run_path):
    return read_json(run_path / "pair" / "statistics.json")


def test_instance_table(statistics):
    table = datasets.instance_table(statistics)
    (group,) = table.groups
    # Three splits of 6 pairs a task, each pair with 2 targets.
    assert [cell.text for cell in group.rows[0].cells] == [
        "36",
        "36",
        "36",
        "2,509,552",
        "3,443,758",
        "5,557,188",
    ]
    assert [cell.text for cell in group.rows[1].cells] == ["2", "2", "2", "2.10", "4.04", "5.27"]


def test_size_table(statistics):
    (group,) = datasets.size_table(statistics).groups
    shown = {row.title: [cell.text for cell in row.cells] for row in group.rows}
    assert shown["Pairs"] == ["54", "2,382,747"]
    assert shown["Object categories"] == ["2", "141"]


def test_source_table_has_the_splits_in_order(statistics):
    table = datasets.source_table(statistics)
    assert [group.title for group in table.groups] == ["train: 6 images", "val: 6 images", "test: 6 images"]
    assert [cell.text for cell in table.groups[0].rows[0].cells] == ["6", "6", "6"]


def test_rejection_table(statistics):
    (group,) = datasets.rejection_table(statistics).groups
    (row,) = group.rows
    assert row.title == "paco_lvis/common_parts: ambiguous"
    assert [cell.text for cell in row.cells] == ["3", "0", "0"]


def test_most_frequent_come_first_and_ties_by_name():
    counts = {"b": 2, "a": 2, "c": 9}
    assert list(datasets.by_frequency(counts).items()) == [("c", 9), ("a", 2), ("b", 2)]


def test_top_categories_are_cut(statistics):
    many = {f"name {number:02}": 50 - number for number in range(40)}
    occurrences = {**statistics["occurrences"], "common_parts": many}
    top = datasets.top_categories({**statistics, "occurrences": occurrences})
    assert list(top) == ["Objects", "Parts", "Common parts", "Unique parts"]
    assert list(top["Common parts"])[:2] == ["name 00", "name 01"]
    assert len(top["Common parts"]) == 30


def test_pairs_are_split_by_source_and_kind(statistics):
    assert datasets.pairs_by_kind(statistics) == {"paco_lvis": {"objects": 18, "parts": 36}}
