"""Strict loading: what fits is loaded exactly, what does not is refused and changes nothing."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file, save_file
from torch import nn

from calico.checkpoints.layout import component_path
from calico.checkpoints.loader import (
    load_component,
    load_pretrained,
    load_trained,
    plain_state,
    save_component,
    save_trained,
)
from calico.core.files import sha256_of
from calico.errors import CheckpointError


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(3, 4)
        self.norm = nn.LayerNorm(4)


class Model(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.qformer, self.f_image, self.cem = Block(), nn.Linear(2, 2), nn.Linear(1, 1)

    @property
    def components(self) -> dict[str, nn.Module]:
        return dict(self.named_children())


def test_a_saved_component_loads_exactly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, target = Block(), Block()
    save_component(source, tmp_path / "block.safetensors")
    report = load_component(target, tmp_path / "block.safetensors")
    assert (report.component, report.loaded, report.parameters) == ("block", 4, 3 * 4 + 4 + 4 + 4)
    assert report.missing == report.unexpected == report.misshapen == ()
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[name])


def test_half_precision_files_are_cast_to_the_module(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, target = Block(), Block()
    save_component(source, tmp_path / "block.safetensors", dtype=torch.float16)
    load_component(target, tmp_path / "block.safetensors")
    assert load_file(tmp_path / "block.safetensors")["q_proj.weight"].dtype == torch.float16
    assert target.q_proj.weight.dtype == torch.float32
    assert torch.equal(target.q_proj.weight, source.q_proj.weight.half().float())


def test_adapters_are_not_part_of_a_component(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain, adapted = Block(), Block()
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["q_proj"]), adapted)
    save_component(plain, tmp_path / "plain.safetensors")
    load_component(adapted, tmp_path / "plain.safetensors")
    inputs = torch.randn(5, 3)
    assert torch.equal(adapted.q_proj(inputs), plain.q_proj(inputs))
    save_component(adapted, tmp_path / "adapted.safetensors")
    assert set(load_file(tmp_path / "adapted.safetensors")) == set(plain.state_dict())


def test_a_pretrained_folder_loads_into_the_components_that_have_files(tmp_path: Path) -> None:
    source, target = Model(0), Model(1)
    for name in ("qformer", "f_image"):
        save_component(source.components[name], component_path(tmp_path, name))
    reports = load_pretrained(target, tmp_path, variant="calico")
    assert list(reports) == ["qformer", "f_image"]
    assert reports["f_image"]["loaded"] == 2
    assert torch.equal(target.f_image.weight, source.f_image.weight)
    assert not torch.equal(target.cem.weight, source.cem.weight)


def test_a_missing_component_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"qformer\.safetensors: no such file"):
        load_pretrained(Model(), tmp_path, variant="calico")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm.bias": None}, r"does not fit 'block', which has 4 tensors: 1 missing \(norm.bias\)"),
        ({"head.weight": torch.zeros(1)}, r"1 unexpected \(head.weight\)"),
        ({"norm.bias": torch.zeros(5)}, r"1 of another shape \(norm.bias \(5,\), not \(4,\)\)"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(
    tmp_path: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    module = Block()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    tensors = {name: tensor + 1 for name, tensor in before.items()} | change
    path = tmp_path / "block.safetensors"
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    with pytest.raises(CheckpointError, match=message):
        load_component(module, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_only_the_first_names_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({f"layer.{index}.weight": torch.zeros(1) for index in range(30)}, path)
    with pytest.raises(
        CheckpointError, match=r"4 missing \(.*\); 30 unexpected \((layer\.\d+\.weight, ){5}\.\.\.\)"
    ):
        load_component(Block(), path)


@pytest.mark.parametrize("kept", [0, 4, 60, -1])
def test_a_truncated_file_is_reported(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "block.safetensors"
    save_component(Block(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"block\.safetensors: not a complete safetensors file"):
        load_component(Block(), path)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "block.safetensors"
    torch.save(Block().state_dict(), path)
    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        load_component(Block(), path)


def test_the_digest_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "block.safetensors"
    save_component(Block(), path)
    load_component(Block(), path, sha256=sha256_of(path))
    with pytest.raises(CheckpointError, match=f"expected {'0' * 64}"):
        load_component(Block(), path, sha256="0" * 64)


def test_only_what_was_trained_is_saved_and_loaded(tmp_path: Path) -> None:
    source, target = Model(0), Model(1)
    path = tmp_path / "trained.safetensors"
    for model in (source, target):
        model.requires_grad_(False)
        model.cem.requires_grad_(True)
    save_trained(source, path, facts={"variant": "calico"})
    assert set(load_file(path)) == {"cem.weight", "cem.bias"}
    report = load_trained(target, path, facts={"variant": "calico"})
    assert (report.component, report.loaded) == ("trained", 2)
    assert torch.equal(target.cem.weight, source.cem.weight)
    assert not torch.equal(target.f_image.weight, source.f_image.weight)


def test_trained_tensors_of_another_model_are_refused(tmp_path: Path) -> None:
    model = Model()
    path = tmp_path / "trained.safetensors"
    save_trained(model.requires_grad_(False).cem.requires_grad_(True), path, facts={"variant": "lisa"})
    with pytest.raises(CheckpointError, match="trained with variant = 'lisa', but this model has 'calico'"):
        load_trained(model, path, facts={"variant": "calico"})
    with pytest.raises(CheckpointError, match=r"2 missing \(cem.weight, cem.bias\); 2 unexpected"):
        load_trained(model, path)


def test_plain_state_shares_memory_with_the_module() -> None:
    module = Block()
    assert plain_state(module)["norm.weight"] is module.norm.weight
