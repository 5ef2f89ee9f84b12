"""Load and save weights strictly: every tensor of the file has a place in the module, and vice versa.

A component file holds the stock module's own names. Adapters that were put into the module (LoRA) are not
part of it, and the names that they change are read as if they were not there.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from calico.checkpoints.layout import PRETRAINED_COMPONENTS, find_component
from calico.core.files import atomic_path, sha256_of
from calico.errors import CheckpointError

_NUM_KEYS_SHOWN = 5


@dataclass(frozen=True)
class LoadReport:
    """What one file did to one module; `missing`, `unexpected` and `misshapen` are empty after success.

    Attributes:
        component: name of the component, or of the kind of file.
        file: path of the file.
        loaded: number of tensors copied.
        parameters: number of values in them.
        missing: names that the module needs and the file lacks.
        unexpected: names of the file that the module does not know.
        misshapen: names whose shapes differ, with both shapes.
    """

    component: str
    file: str
    loaded: int
    parameters: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()


def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the module's tensors by the stock names: no adapters, no wrapping that adapters bring."""
    return {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in module.state_dict(keep_vars=True).items()
        if ".lora_" not in name
    }


def load_component(
    module: nn.Module, path: Path, *, component: str | None = None, sha256: str | None = None
) -> LoadReport:
    """Copy a component file into `module`, cast to the module's dtype.

    Args:
        module: mutated, but only if the file fits.
        path: safetensors file.
        component: name for messages; the file's name by default.
        sha256: expected digest, checked first.

    Raises:
        CheckpointError: the file is missing, damaged or another one, or a name or a shape does not match.
    """
    name = component or Path(path).stem
    check_digest(path, sha256)
    tensors, _ = read_tensors(path)
    return _copy(tensors, plain_state(module), component=name, path=path)


def save_component(module: nn.Module, path: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write a component file, atomically.

    Args:
        module: stock module, with or without adapters.
        path: safetensors file.
        dtype: type to store floating-point tensors in; their own by default.
    """
    write_tensors(path, plain_state(module), dtype=dtype)


def load_pretrained(
    model: nn.Module, checkpoints_path: Path, *, variant: str, components: Sequence[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Load the component files of a model.

    Args:
        model: has `components`, a dictionary of modules by name.
        checkpoints_path: folder that the stage "checkpoints" wrote.
        variant: which model; a file of its own goes before the one that all share.
        components: which to load; by default all of the model's that have pretrained weights.

    Returns:
        The load report of each component, as dictionaries.

    Raises:
        CheckpointError: see `load_component`.
    """
    modules: Mapping[str, nn.Module] = model.components  # type: ignore[assignment]
    chosen = [name for name in PRETRAINED_COMPONENTS if name in modules] if components is None else components
    return {
        name: asdict(load_component(modules[name], find_component(checkpoints_path, name, variant)))
        for name in chosen
    }


def save_trained(model: nn.Module, path: Path, *, facts: Mapping[str, str] | None = None) -> None:
    """Write only what is trainable (`requires_grad`), by the model's own names, atomically.

    Args:
        model: after training.
        path: safetensors file.
        facts: what a reader must agree with, such as the variant; stored in the file.
    """
    write_tensors(path, _trainable(model), facts=facts)


def load_trained(model: nn.Module, path: Path, *, facts: Mapping[str, str] | None = None) -> LoadReport:
    """Load what `save_trained` wrote into a model with the same trainable parameters.

    Args:
        model: its trainable parameters must be exactly the file's tensors; call `set_trainable` first.
        path: safetensors file.
        facts: must equal those stored in the file.

    Raises:
        CheckpointError: the file is missing, damaged, or of another model.
    """
    tensors, stored = read_tensors(path)
    for key, value in (facts or {}).items():
        if stored.get(key) != value:
            raise CheckpointError(
                f"{path}: trained with {key} = {stored.get(key)!r}, but this model has {value!r}. "
                "Train again, or load the file into the model that it was trained on."
            )
    return _copy(tensors, _trainable(model), component="trained", path=path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: tensors by name, and the strings stored with them.

    Raises:
        CheckpointError: the file is missing, truncated or not safetensors.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file. Run the stage that writes it.")
    try:
        with safe_open(str(path), framework="pt") as stream:
            names: list[str] = list(stream.keys())
            facts: dict[str, str] = json.loads((stream.metadata() or {}).get("facts", "{}"))
            return {name: stream.get_tensor(name) for name in names}, facts
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        size = Path(path).stat().st_size
        raise CheckpointError(
            f"{path}: not a complete safetensors file ({size} bytes; {error}). "
            "Delete it and run the stage that writes it again."
        ) from error


def check_digest(path: Path, sha256: str | None) -> None:
    """Check a file's sha256, if one is expected.

    Raises:
        CheckpointError: the file is missing or its digest differs.
    """
    if sha256 is None:
        return
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file; a file with sha256 {sha256} is expected there.")
    actual = sha256_of(path)
    if actual != sha256:
        raise CheckpointError(
            f"{path}: sha256 is {actual}, expected {sha256}. Fetch or build the file again."
        )


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file atomically.

    Args:
        path: where to.
        tensors: by name.
        dtype: type to store floating-point tensors in; their own by default.
        facts: strings that a reader should know.
    """
    stored = {name: _storable(tensor, dtype) for name, tensor in tensors.items()}
    # One entry: safetensors writes several in an order that changes from process to process.
    with atomic_path(path) as temporary:
        save_file(stored, temporary, metadata={"facts": json.dumps(dict(facts or {}), sort_keys=True)})


def _trainable(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _storable(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    is_cast = dtype is not None and tensor.is_floating_point()
    return tensor.detach().to("cpu", dtype if is_cast else tensor.dtype).contiguous()


@torch.no_grad()
def _copy(
    source: Mapping[str, Tensor], target: Mapping[str, Tensor], *, component: str, path: Path
) -> LoadReport:
    shared = [name for name in target if name in source]
    report = LoadReport(
        component=component,
        file=str(path),
        loaded=len(shared),
        parameters=sum(target[name].numel() for name in shared),
        missing=tuple(name for name in target if name not in source),
        unexpected=tuple(name for name in source if name not in target),
        misshapen=tuple(
            f"{name} {tuple(source[name].shape)}, not {tuple(target[name].shape)}"
            for name in shared
            if source[name].shape != target[name].shape
        ),
    )
    if report.missing or report.unexpected or report.misshapen:
        raise CheckpointError(_describe(report, num_expected=len(target)))
    for name in shared:
        target[name].copy_(source[name])
    return report


def _describe(report: LoadReport, *, num_expected: int) -> str:
    faults = {
        "missing": report.missing,
        "unexpected": report.unexpected,
        "of another shape": report.misshapen,
    }
    counted = "; ".join(f"{len(names)} {fault} ({_first(names)})" for fault, names in faults.items() if names)
    return (
        f"{report.file}: does not fit '{report.component}', which has {num_expected} tensors: {counted}. "
        "The file belongs to another model, or the sizes in params.yaml changed since it was written."
    )


def _first(names: Sequence[str]) -> str:
    return ", ".join([*names[:_NUM_KEYS_SHOWN], *(["..."] if len(names) > _NUM_KEYS_SHOWN else [])])
