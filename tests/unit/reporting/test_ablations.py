import pytest

from calico.reporting.ablations import ablation_table, cam_estimates, difference_table, title_of
from calico.reporting.paper_results import METRICS, TABLE_2
from tests.unit.reporting.conftest import make_ablation_metrics

FIRST = slice(0, len(METRICS))
PAPERS = slice(len(METRICS), None)


@pytest.fixture
def ablations():
    return make_ablation_metrics()


def test_table_2_is_in_the_papers_order_and_calico_comes_last(ablations):
    ablations["models"]["without_words"] = ablations["models"]["without_cam"]
    ablations["intervals"]["without_words"] = ablations["intervals"]["without_cam"]
    table = ablation_table(ablations, "drawn scenes")
    assert [group.title for group in table.groups] == [
        "Mean of the three tasks",
        "Common objects",
        "Common parts",
        "Unique parts",
    ]
    assert [row.title for row in table.groups[0].rows] == [
        "w/o Q-Former",
        "w/o CAM",
        "one CAM, at a half",
        "without words",
        "CALICO",
    ]


def test_ours_stand_left_with_ranges_and_the_papers_right(ablations):
    table = ablation_table(ablations, "drawn scenes")
    assert table.spans == (("This run: drawn scenes", 5), ("Paper: MixedParts, photographs", 5))
    by_title = {row.title: row.cells for row in table.groups[0].rows}
    assert {(cell.text, cell.detail) for cell in by_title["w/o CAM"][FIRST]} == {("58.0", "53.0 to 63.0")}
    for title in ("w/o Q-Former", "w/o CAM", "CALICO"):
        assert tuple(float(cell.text) for cell in by_title[title][PAPERS]) == TABLE_2[title]
    assert {cell.text for cell in by_title["one CAM, at a half"][PAPERS]} == {"\N{EN DASH}"}
    # The paper prints the mean alone.
    assert {cell.text for row in table.groups[1].rows for cell in row.cells[PAPERS]} == {"\N{EN DASH}"}


def test_the_best_of_each_half_is_marked(ablations):
    rows = {row.title: row.cells for row in ablation_table(ablations, "drawn scenes").groups[0].rows}
    assert [cell.is_best for cell in rows["CALICO"]] == [True] * 10
    # The paper's AP50 and Recall without CAM equal CALICO's.
    assert [cell.is_best for cell in rows["w/o CAM"]] == [False] * 5 + [True, False, True, False, False]


def test_differences_are_signed_percentage_points(ablations):
    (group,) = difference_table(ablations).groups
    cells = {row.title: row.cells[0] for row in group.rows}
    assert list(cells) == ["w/o Q-Former", "w/o CAM", "one CAM, at a half"]
    assert (cells["w/o Q-Former"].text, cells["w/o Q-Former"].detail) == ("-20.0", "-25.0 to -15.0")
    assert (cells["one CAM, at a half"].text, cells["one CAM, at a half"].detail) == ("+1.0", "-4.0 to +6.0")


def test_figure_8_counts_cams_and_leaves_out_what_was_not_trained(ablations):
    assert cam_estimates(ablations, "mIoU") == {
        "1 CAM": (0.61, (0.56, 0.66)),
        "2 CAMs": (0.62, (0.57, 0.67)),
    }


def test_an_ablation_of_ones_own_is_named_as_in_params():
    assert title_of("without_the_moon") == "without the moon"
