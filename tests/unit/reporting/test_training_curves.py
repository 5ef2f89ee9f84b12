import json

import pytest

from calico.errors import DataError
from calico.reporting.training_curves import MAX_POINTS, read_curves, read_validations


def write_log(path, num_steps):
    lines = [
        {"step": step, "text": 1.0, "mask": float(step), "dice": 0.5} for step in range(1, num_steps + 1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_short_run_keeps_every_step(tmp_path):
    curves = read_curves({"calico": write_log(tmp_path / "log.jsonl", 3)})
    assert curves["mask"]["calico"] == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]


def test_a_long_run_becomes_means_that_keep_its_mean(tmp_path):
    points = read_curves({"calico": write_log(tmp_path / "log.jsonl", 10 * MAX_POINTS)})["mask"]["calico"]
    assert len(points) == MAX_POINTS
    assert points[0] == (5.5, 5.5)
    assert sum(value for _, value in points) / MAX_POINTS == pytest.approx((10 * MAX_POINTS + 1) / 2)


def test_validations_are_read_where_there_are_some(tmp_path):
    paths = {model: write_log(tmp_path / f"{model}.jsonl", 3) for model in ("calico", "lisa")}
    assert read_validations(paths) == {}
    lines = paths["calico"].read_text().splitlines()
    for row, iou in ((0, 0.2), (2, 0.6)):
        lines[row] = json.dumps({**json.loads(lines[row]), "validation": {"loss": 1 - iou, "mean_iou": iou}})
    paths["calico"].write_text("\n".join(lines))
    assert read_validations(paths) == {
        "loss": {"calico": [(1.0, 0.8), (3.0, 0.4)]},
        "mean_iou": {"calico": [(1.0, 0.2), (3.0, 0.6)]},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 lines"),
        ('{"step": 1}\n', "must have step, text, mask, dice"),
        ('{"step": 1', "a line is not JSON"),
    ],
)
def test_a_damaged_log_is_an_error(tmp_path, text, message):
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        read_curves({"calico": tmp_path / "log.jsonl"})


def test_a_missing_log_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"log\.jsonl: no such file"):
        read_curves({"calico": tmp_path / "log.jsonl"})
