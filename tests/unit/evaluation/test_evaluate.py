"""calico.evaluation.evaluate from files to files; the text model is a stand-in."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calico.core import tables
from calico.core.files import read_json, read_parquet
from calico.core.masks import encode
from calico.core.records import Answer
from calico.core.tokens import TASKS
from calico.errors import DataError
from calico.evaluation import evaluate as module
from calico.evaluation.evaluate import evaluate
from calico.evaluation.metrics import EXTRA_METRICS, GLAMM_METRICS, METRICS, STRICT_METRICS
from calico.tracking import Run

MODELS = ("calico", "lisa")
FLOORS = ("majority", "whole_object", "usual_parts", "shuffled_images")


@pytest.fixture
def write_world(world: Any) -> Callable[..., None]:
    def write(folder: Path, *, shuffle_seed: int = 0) -> None:
        """Write all inputs; `calico` is perfect, `lisa` answers one task, shuffled answers are empty."""
        order = random.Random(shuffle_seed)

        def in_some_order(records: Any) -> list[Any]:
            return order.sample(list(records), len(list(records)))

        tables.write_images(folder / "unify/images.parquet", in_some_order(world.truth.images.values()))
        tables.write_objects(folder / "unify/objects.parquet", in_some_order(world.truth.objects.values()))
        tables.write_parts(folder / "unify/parts.parquet", in_some_order(world.truth.parts.values()))
        tables.write_pairs(folder / "pair/test.parquet", in_some_order(world.test_pairs))
        tables.write_pairs(folder / "pair/train.parquet", in_some_order(world.train_pairs))
        for name in MODELS:
            masks = [mask for mask in world.perfect() if name == "calico" or mask.task == "common_parts"]
            answers = [
                Answer(pair.pair_id, pair.task, "...", int(pair.pair_id == "u1")) for pair in world.test_pairs
            ]
            tables.write_predictions(folder / f"predict/{name}/predictions.parquet", in_some_order(masks))
            tables.write_answers(folder / f"predict/{name}/answers.parquet", answers)
        tables.write_predictions(folder / "predict/calico/shuffled_predictions.parquet", [])

    return write


@pytest.fixture
def run(
    section: Any, embed_words: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Any]:
    (tmp_path / "model").mkdir()
    monkeypatch.setattr(module, "load_text_model", lambda _: embed_words)

    def run_in(folder: Path, **changes: Any) -> dict[str, Any]:
        return evaluate(
            section.model_copy(update={"text_model": str(tmp_path / "model"), **changes}),
            models=MODELS,
            pair_path=folder / "pair",
            unify_path=folder / "unify",
            predict_path=folder / "predict",
            output_path=folder / "evaluate",
            run=Run(),
        )

    return run_in


def test_metrics_json_holds_what_the_report_reads(
    write_world: Callable[..., None], run: Callable[..., Any], tmp_path: Path
) -> None:
    write_world(tmp_path)
    metrics = run(tmp_path)
    assert read_json(tmp_path / "evaluate/metrics.json") == json.loads(json.dumps(metrics))
    assert set(metrics) == {
        *("models", "floors", "labels", "intervals", "test", "malformed", "definitions"),
        *("strict", "strict_intervals", "differences", "categories"),
    }
    assert tuple(metrics["models"]) == MODELS
    assert tuple(metrics["floors"]) == FLOORS
    for scores in (*metrics["models"].values(), *metrics["floors"].values()):
        assert set(scores) == {*TASKS, "mean"}
        for values in scores.values():
            assert list(values) == ["AP50", "mIoU", "Recall", "SS", "S-IoU"]
            assert all(0.0 <= value <= 1.0 for value in values.values())
    assert metrics["models"]["calico"]["mean"] == dict.fromkeys(METRICS, 1.0)
    assert metrics["models"]["lisa"]["common_parts"] == dict.fromkeys(METRICS, 1.0)
    assert metrics["models"]["lisa"]["unique_parts"] == dict.fromkeys(METRICS, 0.0)
    assert metrics["floors"]["shuffled_images"]["mean"] == dict.fromkeys(METRICS, 0.0)
    assert metrics["intervals"]["calico"]["unique_parts"] == {name: [1.0, 1.0] for name in METRICS}
    assert metrics["labels"]["usual_parts"]["mean"] == dict.fromkeys(EXTRA_METRICS, 1.0)
    assert set(metrics["strict"]) == {*MODELS, *FLOORS}
    assert metrics["strict"]["calico"]["mean"] == dict.fromkeys(STRICT_METRICS, 1.0)
    assert metrics["strict"]["lisa"]["unique_parts"]["named_F1"] == 0.0
    assert metrics["strict_intervals"]["calico"]["mean"] == {name: [1.0, 1.0] for name in STRICT_METRICS}
    difference = metrics["differences"]["calico"]["lisa"]["unique_parts"]["Recall"]
    assert difference == {"difference": 1.0, "interval": [1.0, 1.0], "p": round(2 / 51, 6)}
    assert metrics["test"] == {
        "pairs": 3,
        "images": 3,
        "targets": 5,
        "tasks": {
            "common_objects": {"pairs": 1, "images": 2, "targets": 2},
            "common_parts": {"pairs": 1, "images": 2, "targets": 2},
            "unique_parts": {"pairs": 1, "images": 2, "targets": 1},
        },
    }


def test_floors_are_worth_what_they_know(
    write_world: Callable[..., None], run: Callable[..., Any], tmp_path: Path
) -> None:
    write_world(tmp_path)
    floors = run(tmp_path)["floors"]
    whole = floors["whole_object"]
    assert whole["mean"]["SS"] == whole["mean"]["S-IoU"] == 1.0
    # Both heads fill a quarter of their object, the tail 16 of its 100 pixels.
    assert (whole["common_parts"]["mIoU"], whole["unique_parts"]["mIoU"]) == (0.25, 0.16)
    assert whole["common_parts"]["Recall"] == 0.0
    # One image has a single object; in the other, the dog is half of the foreground.
    assert whole["common_objects"]["mIoU"] == 0.75
    assert floors["majority"]["common_objects"]["S-IoU"] == 1.0
    # Of "dog's head" and "dog's tail", the first shares one of three words with "cat's head".
    assert floors["majority"]["common_parts"]["S-IoU"] == pytest.approx((1 + 1 / 3) / 2, abs=1e-6)


def test_same_inputs_in_any_order_give_the_same_bytes(
    write_world: Callable[..., None], run: Callable[..., Any], tmp_path: Path
) -> None:
    for seed in (1, 2):
        write_world(tmp_path / str(seed), shuffle_seed=seed)
        run(tmp_path / str(seed))
    for name in ("metrics.json", "per_pair.parquet"):
        first, second = ((tmp_path / seed / "evaluate" / name).read_bytes() for seed in ("1", "2"))
        assert first == second


def test_train_pairs_are_read_one_by_one(
    write_world: Callable[..., None], run: Callable[..., Any], tmp_path: Path, world: Any
) -> None:
    """Only the floor `majority` needs them; the parquet file of millions would fill the memory."""
    write_world(tmp_path)
    (tmp_path / "pair/train.parquet").unlink()
    assert run(tmp_path)["floors"]["majority"]["common_objects"]["Recall"] > 0
    tables.write_pairs(tmp_path / "pair/train.parquet", [world.train_pairs[0]])
    with pytest.raises(DataError, match="has test pairs but no train pairs"):
        run(tmp_path)


def test_per_pair_rows_add_up(
    write_world: Callable[..., None], run: Callable[..., Any], tmp_path: Path
) -> None:
    write_world(tmp_path)
    metrics = run(tmp_path)
    rows = read_parquet(tmp_path / "evaluate/per_pair.parquet")
    assert len(rows) == (len(MODELS) + len(FLOORS)) * 3
    for model in (*MODELS, *FLOORS):
        for task in TASKS:
            found = [row["mIoU"] for row in rows if (row["model"], row["task"]) == (model, task)]
            scores = metrics["models"].get(model) or metrics["floors"][model]
            mean = sum(share["total"] for share in found) / sum(share["number"] for share in found)
            assert scores[task]["mIoU"] == pytest.approx(mean, abs=1e-6)
    assert rows[0] | {"model": "calico", "pair_id": "o1", "task": "common_objects"} == rows[0]
    assert rows[0]["AP50"] == {"num_true": 2, "scores": [0.9, 0.9], "is_hit": [True, True]}


def test_malformed_answers_and_masks_are_counted(
    world: Any, write_world: Callable[..., None], run: Callable[..., Any], tmp_path: Path
) -> None:
    write_world(tmp_path)
    folder = tmp_path / "predict/lisa"
    other_size = encode(np.ones((30, 20), dtype=bool))
    broken = [replace(world.perfect()[0], rle=other_size), replace(world.perfect()[0], image_index=8)]
    tables.write_predictions(folder / "predictions.parquet", broken)
    answer = Answer("o1", "common_objects", "", 3, (("no_seg", 1), ("unfinished", 1)))
    tables.write_answers(folder / "answers.parquet", [answer])
    metrics = run(tmp_path)
    assert metrics["malformed"]["lisa"] == {
        "answers_without_masks": 0,
        "reasons": {"no_seg": 1, "unfinished": 1},
        "answers": 1,
        "missing_answers": 2,
        "malformed_answers": 1,
        "malformed_phrases": 3,
        "unknown_image": 1,
        "wrong_size": 1,
        "damaged_mask": 0,
        "bad_score": 0,
    }
    assert metrics["malformed"]["calico"]["malformed_answers"] == 1
    assert metrics["models"]["lisa"]["mean"] == dict.fromkeys(METRICS, 0.0)


def test_the_glamm_switch_adds_and_changes_nothing_else(
    write_world: Callable[..., None], run: Callable[..., Any], tmp_path: Path
) -> None:
    write_world(tmp_path)
    without = run(tmp_path)
    metrics = run(tmp_path, glamm=True)
    assert set(metrics["glamm"]) == {*MODELS, *FLOORS}
    assert metrics["glamm"]["calico"]["common_parts"] == dict.fromkeys(GLAMM_METRICS, 1.0)
    # The image without a target counts 0 there.
    assert metrics["glamm"]["calico"]["unique_parts"]["glamm_mIoU"] == 0.5
    assert read_parquet(tmp_path / "evaluate/per_pair.parquet")[0]["glamm_Recall"] == {
        "total": 2.0,
        "number": 2,
    }
    for name in ("models", "floors", "labels", "strict", "intervals", "strict_intervals"):
        assert metrics[name] == without[name]


def test_nothing_is_written_when_an_input_is_missing(
    write_world: Callable[..., None], run: Callable[..., Any], tmp_path: Path
) -> None:
    write_world(tmp_path)
    (tmp_path / "predict/calico/shuffled_predictions.parquet").unlink()
    with pytest.raises(DataError, match=r"shuffled_predictions.parquet: no such file"):
        run(tmp_path)
    assert not (tmp_path / "evaluate").exists()
