import pytest

from calico.core.tokens import TASKS
from calico.reporting import scores
from calico.reporting.paper_results import METRICS

MODELS = ["calico", "glamm", "lisa"]


def row_of(group, title):
    return next(row for row in group.rows if row.title == title)


def test_score_table_puts_ours_left_and_the_papers_right(metrics):
    table = scores.score_table(metrics, TASKS, title="Table 5", data_title="drawn scenes")
    assert [title for title, _ in table.spans] == ["This run: drawn scenes", "Paper: MixedParts, photographs"]
    assert [group.title for group in table.groups] == ["Common objects", "Common parts", "Unique parts"]
    calico = row_of(table.groups[2], "CALICO")
    assert len(calico.cells) == len(table.columns) == 2 * len(METRICS)
    assert (calico.cells[1].text, calico.cells[1].detail) == ("60.0", "55.0 to 65.0")
    assert [cell.text for cell in calico.cells[5:]] == ["30.2", "59.1", "48.8", "80.1", "73.4"]


def test_score_table_marks_the_best_of_each_half(metrics):
    (group,) = scores.score_table(metrics, ("mean",), title="Table 1", data_title="").groups
    best_ours = {row.title for row in group.rows if row.cells[0].is_best}
    best_papers = {row.title for row in group.rows if row.cells[5].is_best}
    assert best_ours == best_papers == {"CALICO"}


def test_score_table_leaves_open_what_we_did_not_measure(metrics):
    (group,) = scores.score_table(metrics, ("mean",), title="Table 1", data_title="").groups
    assert {cell.text for cell in row_of(group, "Cascade").cells[:5]} == {"\N{EN DASH}"}


def test_floor_table_defines_every_floor(metrics):
    table = scores.floor_table(metrics)
    for group in table.groups:
        floors = [row for row in group.rows if row.definition]
        assert [row.title for row in floors] == [*scores.FLOOR_TITLES.values()]
        assert [row.cells[0].text for row in floors] == ["10.0", "20.0", "62.0", "90.0"]
        assert not any(cell.is_best for row in group.rows for cell in row.cells)


def test_label_table(metrics):
    models, floors = scores.label_table(metrics, MODELS).groups
    assert [row.title for row in models.rows] == ["CALICO", "Multi-Image GLaMM", "Multi-Image LISA"]
    assert {cell.text for cell in floors.rows[-1].cells} == {"90.0"}


def test_findings_say_beaten_level_and_below(metrics):
    metrics["floors"]["majority"]["unique_parts"]["Recall"] = 0.56
    findings = scores.floor_findings(metrics)
    assert findings["majority"] == (
        "CALICO's Recall beats it on common objects (60.0 against 10.0) and common parts (60.0 against "
        "10.0); is level with it on unique parts (60.0 against 56.0)."
    )
    below = "(60.0 against 90.0)"
    assert findings["usual_parts"] == (
        f"CALICO's Recall stays below it on common objects {below}, common parts {below} and unique parts "
        f"{below}. In pairs with exactly the true names, masks left aside, CALICO does not beat it on common "
        f"parts {below} and does not beat it on unique parts {below}."
    )


def test_findings_admit_a_beaten_oracle(metrics):
    metrics["labels"]["calico"]["common_parts"]["label_exact_set"] = 0.95
    assert "beats it on common parts (95.0 against 90.0)" in scores.floor_findings(metrics)["usual_parts"]


@pytest.mark.parametrize("model", MODELS)
def test_malformed_answers_are_counted_for_each_model(metrics, model):
    metrics["malformed"][model]["malformed_answers"] = 7
    assert "7 of 18" in scores.malformed_finding(metrics, MODELS)


def test_strict_table_gives_ranges_to_models_and_a_dash_where_nothing_could_be_measured(metrics):
    table = scores.strict_table(metrics, MODELS)
    parts = table.groups[1]
    assert [row.title for row in parts.rows[3:]] == [*scores.FLOOR_TITLES.values()]
    absence = [*scores.STRICT_TITLES].index("absence")
    assert {row.cells[absence].text for row in parts.rows} == {"\N{EN DASH}"}
    assert parts.rows[0].cells[0].detail == "10.0 to 90.0"
    assert parts.rows[-1].cells[0].detail == ""
    assert all(column.definition for column in table.columns)
