"""A finetuned model that is saved and opened again answers the same, on the right base only."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from calico.checkpoints.layout import component_path
from calico.checkpoints.loader import save_component
from calico.cli import main
from calico.errors import CheckpointError, DataError
from calico.models.lora import lora_parameters
from calico.models.model import SegmentingModel
from calico.saving import open_saved
from calico.segmenter import Segmenter
from tests.small_artifacts import small_config, write_checkpoints, write_finetuned
from tests.unit.models.small import randomise

CONFIG = small_config()


@pytest.fixture(scope="module", params=["calico", "lisa"])
def segmenter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    """A finetuned model whose trained parts, LoRA too, all differ from a new one's."""
    root = tmp_path_factory.mktemp(request.param)
    artifacts_path = root / "artifacts" / "tiny"
    (root / "params.yaml").write_text(yaml.safe_dump({"tiny": CONFIG.model_dump()}))
    write_checkpoints(artifacts_path, CONFIG)
    write_finetuned(artifacts_path, CONFIG, request.param)
    opened = Segmenter.from_artifacts("tiny", request.param, root=root)
    opened.root = root
    model = _model(opened)
    trained = (
        {"mask_decoder", "cem", "cams", "qformer", "f_image"}
        if request.param == "calico"
        else {"mask_decoder"}
    )
    for name in trained:
        randomise(model.components[name], std=0.1)
    with torch.no_grad():
        for parameter in lora_parameters(model.components["language_model"]):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return opened


def _model(segmenter: Segmenter) -> SegmentingModel:
    return segmenter._assembly.model


def _images() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 255, (30, 50, 3), dtype=np.uint8) for _ in range(2)]


def _logits(segmenter: Segmenter) -> torch.Tensor:
    model = _model(segmenter)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        hidden = torch.randn(1, 7, model.language_model.hidden_size, generator=generator)
        return model.language_model.head(model.language_model.run(hidden, None))


def test_what_was_trained_is_saved_and_opened_over_the_same_base(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    segmenter.save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {
        "adapter.safetensors",
        "config.json",
        "manifest.json",
        "tokenizer.json",
    }
    checkpoints = segmenter.root / "artifacts" / "tiny" / "checkpoints"
    again = Segmenter.from_pretrained(tmp_path / "saved", checkpoints=checkpoints)
    ours, theirs = dict(_model(segmenter).named_parameters()), dict(_model(again).named_parameters())
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.equal(_logits(segmenter), _logits(again))
    expected, found = (one.segment(_images(), task="common_parts") for one in (segmenter, again))
    assert (expected.answer, expected.masks) == (found.answer, found.masks)


def test_a_merged_model_needs_no_base_and_gives_equal_logits(segmenter: Segmenter, tmp_path: Path) -> None:
    before = _logits(segmenter)
    segmenter.save_pretrained(tmp_path / "merged", merged=True)
    assert torch.equal(_logits(segmenter), before)
    merged = Segmenter.from_pretrained(tmp_path / "merged")
    assert all(
        not parameter.any() for name, parameter in _model(merged).named_parameters() if "lora_B" in name
    )
    # Measured worst case 8.9e-8.
    torch.testing.assert_close(_logits(merged), before, rtol=0, atol=5e-6)
    expected, found = (one.segment(_images(), task="common_parts") for one in (segmenter, merged))
    assert expected.answer.text == found.answer.text


def test_another_base_is_refused(segmenter: Segmenter, tmp_path: Path) -> None:
    segmenter.save_pretrained(tmp_path / "saved")
    write_checkpoints(tmp_path, CONFIG)
    folder = tmp_path / "checkpoints"
    save_component(randomise(_copy(segmenter)), component_path(folder, "f_segmentation"))
    with pytest.raises(CheckpointError, match="other weights than those present: f_segmentation changed"):
        Segmenter.from_pretrained(tmp_path / "saved", checkpoints=folder)
    with pytest.raises(CheckpointError, match="holds only what was trained"):
        Segmenter.from_pretrained(tmp_path / "saved")


def test_damaged_foreign_and_newer_folders_are_refused(segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a saved model"):
        open_saved(tmp_path)
    segmenter.save_pretrained(tmp_path / "saved", merged=True)
    with pytest.raises(CheckpointError, match="not empty"):
        segmenter.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "config.json"
    original = path.read_text()
    path.write_text(original.replace('"merged": true', '"merged": false'))
    with pytest.raises(DataError, match="the manifest says"):
        open_saved(tmp_path / "saved")
    path.write_text(original)
    component = component_path(tmp_path / "saved", "mask_decoder")
    component.write_bytes(component.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"mask_decoder\.safetensors"):
        open_saved(tmp_path / "saved")


@pytest.mark.parametrize(
    ("change", "message"), [({"format": 9}, "format 9, this version reads 1"), ({"variant": "x"}, "variant")]
)
def test_a_config_of_another_version_is_refused(
    segmenter: Segmenter, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    from calico.core.files import write_manifest

    segmenter.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    write_manifest(tmp_path / "saved", pretrained={})
    with pytest.raises(CheckpointError, match=message):
        open_saved(tmp_path / "saved", checkpoints_path=tmp_path)


def test_images_are_encoded_once_for_all_questions(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Segmenter.from_artifacts("tiny", segmenter.variant, root=segmenter.root)
    model, encoded = _model(opened), []
    encode = opened._features._encode_images
    monkeypatch.setattr(
        opened._features,
        "_encode_images",
        lambda views: encoded.append(len(views["global"])) or encode(views),
    )
    first, second = _images()
    for task in ("common_objects", "common_parts", "unique_parts"):
        opened.segment([first, second], task=task)
    opened.segment([second], question="what is it?")
    opened.segment([second.copy(), first], task="common_parts")
    assert encoded == [1, 1]
    assert model is _model(opened)


def test_the_export_command_and_segmenting_with_its_result(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    monkeypatch.chdir(segmenter.root)
    image = tmp_path / "image.png"
    Image.fromarray(_images()[0]).save(image)
    for merged in ([], ["--merged"]):
        folder = tmp_path / f"saved{len(merged)}"
        main(["export", "--model", segmenter.variant, "--out", str(folder), *merged])
        assert str(folder) in capsys.readouterr().out
        main(["segment", str(image), str(image), "--saved", str(folder), "--out", str(tmp_path / "out")])
        assert json.loads((tmp_path / "out" / "result.json").read_text())["model"] == segmenter.variant


def _copy(segmenter: Segmenter) -> torch.nn.Module:
    import copy

    return copy.deepcopy(_model(segmenter).f_segmentation)
