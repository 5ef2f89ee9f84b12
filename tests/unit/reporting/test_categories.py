from calico.core.tokens import TASKS
from calico.reporting.categories import category_table


def test_the_most_frequent_category_comes_first_in_every_task(metrics):
    metrics["categories"]["calico"]["unique_parts"]["ant"] = {"num_true": 9, "Recall": 0.0, "IoU": 0.125}
    metrics["categories"]["lisa"]["unique_parts"]["ant"] = {"num_true": 9, "Recall": 1.0, "IoU": 0.75}
    table = category_table(metrics, ["calico", "lisa"])
    assert [group.title for group in table.groups] == ["Common objects", "Common parts", "Unique parts"]
    assert [row.title for row in table.groups[0].rows] == ["mug", "dog"]
    assert [row.title for row in table.groups[2].rows] == ["mug", "ant", "dog"]
    assert [cell.text for cell in table.groups[2].rows[1].cells] == ["9", "0.0", "12.5", "100.0", "75.0"]
    assert [cell.text for cell in table.groups[2].rows[0].cells] == ["12", "60.0", "60.0", "58.0", "58.0"]


def test_every_model_has_its_columns(metrics):
    table = category_table(metrics, ["calico", "lisa", "glamm"])
    assert table.spans == (("", 1), ("CALICO", 2), ("LISA", 2), ("GLaMM", 2))
    assert [column.title for column in table.columns] == ["Masks", *("Recall", "IoU") * 3]
    assert sum(width for _, width in table.spans) == len(table.columns)
    assert {len(row.cells) for group in table.groups for row in group.rows} == {len(table.columns)}


def test_a_task_without_true_masks_has_no_rows(metrics):
    for by_task in metrics["categories"].values():
        del by_task[TASKS[0]]
    assert category_table(metrics, ["calico"]).groups[0].rows == ()
