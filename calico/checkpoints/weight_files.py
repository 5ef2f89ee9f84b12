"""Read weights as they are published, .pth, .bin or .safetensors, in one file or shards, and run no code."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from calico.core.files import read_json
from calico.errors import CheckpointError

_INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")


def weight_files(place: Path) -> list[Path]:
    """List the weight files at `place`: itself, or what a folder in the Hugging Face layout holds.

    Raises:
        CheckpointError: there is nothing at `place`, a shard is missing, or the index is damaged.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise CheckpointError(f"{place}: no such file or folder.")
    for name in _INDEX_FILES:
        if (place / name).is_file():
            return _shards(place / name)
    for name in _SINGLE_FILES:
        if (place / name).is_file():
            return [place / name]
    raise CheckpointError(f"{place}: holds none of {', '.join((*_INDEX_FILES, *_SINGLE_FILES))}.")


def read_weights(path: Path, *, root: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of one file by name, left on the disk until they are used where the format allows it.

    Args:
        path: safetensors, or what `torch.save` wrote; pickled code in it is refused, never run.
        root: key of the dictionary in the file that holds the tensors; None if they lie at the top.

    Raises:
        CheckpointError: the file is missing, truncated, holds something else than tensors, or pickled code.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file.")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from error
    content = _load(path)
    if root is not None:
        if not isinstance(content, Mapping) or not isinstance(content.get(root), Mapping):
            raise CheckpointError(
                f"{path}: has no dictionary '{root}'; it holds {_outline(content)}. It is another checkpoint."
            )
        content = content[root]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path}: holds {_outline(content)}, not tensors by name.")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(
            f"{path}: {len(others)} of {len(content)} entries are no tensors: {_outline(content)}. "
            "It is another checkpoint."
        )
    return {str(name): tensor for name, tensor in content.items()}


def _load(path: Path) -> Any:
    # Only the zip format of torch 1.6 and later can stay on the disk.
    is_zip = zipfile.is_zipfile(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return CheckpointError(
        f"{path}: not a complete file of weights ({path.stat().st_size} bytes; {reason}). Pickled code is "
        "never run. Fetch the file again."
    )


def _shards(index_path: Path) -> list[Path]:
    index = read_json(index_path)
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise CheckpointError(f"{index_path}: has no 'weight_map' of names and files. Fetch it again.")
    paths = [index_path.parent / name for name in sorted(set(names.values()))]
    outside = [path.name for path in paths if path.parent.resolve() != index_path.parent.resolve()]
    missing = [path.name for path in paths if not path.is_file()]
    if outside or missing:
        raise CheckpointError(
            f"{index_path}: names {len(paths)} files, of which "
            + (f"{', '.join(outside)} lie elsewhere" if outside else f"{', '.join(missing)} are missing")
            + ". Fetch the checkpoint again."
        )
    return paths


def _outline(content: Any) -> str:
    """Say in a few words what a file holds."""
    if not isinstance(content, Mapping):
        return f"one {type(content).__name__}"
    return f"{len(content)} entries ({', '.join(str(name) for name in list(content)[:5])}, ...)"
