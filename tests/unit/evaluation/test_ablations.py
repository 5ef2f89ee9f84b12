"""calico.evaluation.ablations from files to files; the text model is a stand-in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calico.core import tables
from calico.core.files import read_json
from calico.core.tokens import TASKS
from calico.errors import DataError
from calico.evaluation import ablations as module
from calico.evaluation.ablations import evaluate_ablations
from calico.evaluation.metrics import METRICS, STRICT_METRICS
from calico.tracking import Run

ABLATIONS = ("without_cam", "without_cem")


@pytest.fixture
def run(
    world: Any, section: Any, embed_words: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[], dict[str, Any]]:
    """CALICO is perfect, so is `without_cam`; `without_cem` answers one task of three."""
    (tmp_path / "model").mkdir()
    monkeypatch.setattr(module, "load_text_model", lambda _: embed_words)
    tables.write_images(tmp_path / "unify/images.parquet", list(world.truth.images.values()))
    tables.write_objects(tmp_path / "unify/objects.parquet", list(world.truth.objects.values()))
    tables.write_parts(tmp_path / "unify/parts.parquet", list(world.truth.parts.values()))
    tables.write_pairs(tmp_path / "pair/test.parquet", world.test_pairs)
    for name in ("calico", *ABLATIONS):
        masks = [mask for mask in world.perfect() if name != "without_cem" or mask.task == "common_parts"]
        tables.write_predictions(tmp_path / f"predict/{name}/predictions.parquet", masks)

    def run_here() -> dict[str, Any]:
        return evaluate_ablations(
            section.model_copy(update={"text_model": str(tmp_path / "model")}),
            ablations=ABLATIONS,
            pair_path=tmp_path / "pair",
            unify_path=tmp_path / "unify",
            predict_path=tmp_path / "predict",
            output_path=tmp_path / "ablations",
            run=Run(),
        )

    return run_here


def test_every_ablation_is_scored_beside_the_full_model(
    run: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    metrics = run()
    assert read_json(tmp_path / "ablations/metrics.json") == metrics
    assert list(metrics["models"]) == ["calico", *ABLATIONS]
    for name in ("calico", "without_cam"):
        assert metrics["models"][name]["mean"] == dict.fromkeys(METRICS, 1.0)
        assert metrics["strict"][name]["mean"] == dict.fromkeys(STRICT_METRICS, 1.0)
        assert metrics["intervals"][name]["mean"] == {metric: [1.0, 1.0] for metric in METRICS}
    assert metrics["models"]["without_cem"]["mean"]["Recall"] == round(1 / 3, 6)
    assert {task: metrics["models"]["without_cem"][task]["Recall"] for task in TASKS} == {
        "common_objects": 0.0,
        "common_parts": 1.0,
        "unique_parts": 0.0,
    }
    assert set(metrics["intervals"]["without_cem"]["common_parts"]) == set(METRICS)
    assert metrics["test"]["pairs"] == 3


def test_differences_are_the_ablation_minus_the_full_model(run: Callable[[], dict[str, Any]]) -> None:
    differences = run()["differences"]
    assert {name: list(against) for name, against in differences.items()} == {
        name: ["calico"] for name in ABLATIONS
    }
    same = differences["without_cam"]["calico"]["mean"]["Recall"]
    assert same == {"difference": 0.0, "interval": [0.0, 0.0], "p": 1.0}
    worse = differences["without_cem"]["calico"]["unique_parts"]["Recall"]
    assert worse == {"difference": -1.0, "interval": [-1.0, -1.0], "p": round(2 / 51, 6)}


def test_an_ablation_that_was_not_predicted_is_an_error(
    run: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "predict/without_cem/predictions.parquet").unlink()
    with pytest.raises(DataError, match=r"without_cem/predictions.parquet: no such file"):
        run()
    assert not (tmp_path / "ablations").exists()
