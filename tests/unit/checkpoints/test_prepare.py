"""The stage "checkpoints": stand-ins are verified and copied; the paper's files are named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from calico.checkpoints.layout import PRETRAINED_COMPONENTS, component_path, tokenizer_path
from calico.checkpoints.prepare import prepare_checkpoints
from calico.config import CheckpointsSection, load_config
from calico.core.files import read_json, sha256_of, verify_manifest
from calico.errors import CheckpointError

MODEL = load_config("tiny").model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of complete stand-ins."""
    standins = tmp_path / "standins"
    standins.mkdir()
    entries: dict[str, Any] = {}
    for number, name in enumerate(PRETRAINED_COMPONENTS):
        save_file({"weight": torch.full((2,), float(number))}, standins / f"{name}.safetensors")
        entries[name] = _entry(standins / f"{name}.safetensors")
    (standins / "tokenizer.json").write_text("{}")
    entries["tokenizer"] = _entry(standins / "tokenizer.json")
    (standins / "manifest.json").write_text(json.dumps({"command": "make standins", "components": entries}))
    return standins


def test_standins_are_installed_with_a_report(folder: Path, tmp_path: Path) -> None:
    output_path = tmp_path / "checkpoints"
    report = prepare_checkpoints(_standins(folder), MODEL, output_path)
    assert report["kind"] == "standins"
    assert set(report["components"]) == {*PRETRAINED_COMPONENTS, "tokenizer"}
    assert read_json(output_path / "report.json") == report
    assert len(verify_manifest(output_path)["files"]) == len(PRETRAINED_COMPONENTS) + 2
    for name in PRETRAINED_COMPONENTS:
        assert component_path(output_path, name).read_bytes() == component_path(folder, name).read_bytes()
    assert tokenizer_path(output_path).read_text() == "{}"


def test_a_changed_standin_is_refused(folder: Path, tmp_path: Path) -> None:
    path = component_path(folder, "clip")
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match=r"clip\.safetensors: sha256 is"):
        prepare_checkpoints(
            CheckpointsSection(kind="standins", folder=str(folder)), MODEL, tmp_path / "checkpoints"
        )


def test_a_missing_standin_is_named(folder: Path, tmp_path: Path) -> None:
    component_path(folder, "qformer").unlink()
    with pytest.raises(CheckpointError, match=r"qformer\.safetensors: no such file"):
        prepare_checkpoints(
            CheckpointsSection(kind="standins", folder=str(folder)), MODEL, tmp_path / "checkpoints"
        )


def test_a_manifest_that_lacks_a_component_is_refused(folder: Path, tmp_path: Path) -> None:
    manifest = read_json(folder / "manifest.json")
    del manifest["components"]["f_image"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="lists no f_image"):
        prepare_checkpoints(
            CheckpointsSection(kind="standins", folder=str(folder)), MODEL, tmp_path / "checkpoints"
        )


def test_a_folder_without_standins_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Build the stand-ins with `make standins`"):
        prepare_checkpoints(_standins(tmp_path), MODEL, tmp_path / "checkpoints")


def test_the_published_files_are_named(tmp_path: Path) -> None:
    section = CheckpointsSection(kind="published", folder="weights")
    with pytest.raises(CheckpointError, match=r"missing: sam_vit_h_4b8939\.pth \(https://"):
        prepare_checkpoints(section, MODEL, tmp_path / "checkpoints")
    assert not (tmp_path / "checkpoints").exists()


def _entry(path: Path) -> dict[str, Any]:
    return {"file": path.name, "sha256": sha256_of(path), "bytes": path.stat().st_size, "parameters": 2}


def _standins(folder: Path) -> CheckpointsSection:
    return CheckpointsSection(kind="standins", folder=str(folder))
