"""What a published checkpoint is, and turning its tensors into components by its key map, strictly."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from calico.config import ModelSection
from calico.errors import CheckpointError

_NUM_KEYS_SHOWN = 5

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Rule:
    """One line of a key map; the first rule that matches a whole name decides.

    Attributes:
        pattern: regular expression of published names.
        component: which component the tensor belongs to; None: known, and not needed.
        name: template of its name there, with the groups of `pattern`.
    """

    pattern: str
    component: str | None = None
    name: str = r"\g<0>"


@dataclass(frozen=True)
class Source:
    """A published checkpoint: where it is, what it holds, how it names it.

    Attributes:
        title: what people call it.
        place: file or folder below the folder of published checkpoints.
        url: where to get it.
        num_bytes, sha256: of the file where they are known; None otherwise.
        holds: component: regular expression of the component's names that this checkpoint must give, all of
            them and no others.
        rules: the key map.
        example: a published name, for messages.
        root: key of the dictionary in the file that holds the tensors.
        adapt: changes that a renaming cannot express, before the rules.
        folder: subfolder of the installed components, for those of one variant only.
        has_tokenizer: `place` also holds tokenizer.model and added_tokens.json.
    """

    title: str
    place: str
    url: str
    holds: Mapping[str, str]
    rules: Sequence[Rule]
    example: str
    num_bytes: int | None = None
    sha256: str | None = None
    root: str | None = None
    adapt: Callable[[Tensors, ModelSection], Tensors] = lambda tensors, _: tensors
    folder: str = ""
    has_tokenizer: bool = False


@dataclass(frozen=True)
class Taken:
    """What one checkpoint gave.

    Attributes:
        components: tensors by component and by the component's names.
        num_tensors: of the checkpoint, after `adapt`.
        num_unneeded: of these, known by the key map and left out.
    """

    components: Mapping[str, Tensors]
    num_tensors: int
    num_unneeded: int


def take(
    source: Source,
    tensors: Tensors,
    section: ModelSection,
    shapes: Mapping[str, Mapping[str, torch.Size]],
    *,
    path: Path,
) -> Taken:
    """Sort the tensors of a checkpoint into components.

    Args:
        source: which checkpoint it should be.
        tensors: of all its files.
        section: dimensions.
        shapes: of every component that the source holds, by name.
        path: for messages.

    Raises:
        CheckpointError: a name is unknown, given twice, missing, or of another shape; names the file, the
            first names and what was expected.
    """
    adapted = source.adapt(tensors, section)
    needed = {component: _needed(source, component, shapes[component]) for component in source.holds}
    components: dict[str, dict[str, Tensor]] = {component: {} for component in needed}
    unexpected, num_unneeded = [], 0
    for published, tensor in adapted.items():
        found = _apply(source.rules, published)
        if found is None:
            unexpected.append(published)
            continue
        component, name = found
        if component is None:
            num_unneeded += 1
        elif name not in needed[component] or name in components[component]:
            unexpected.append(published)
        else:
            components[component][name] = tensor
    missing, misshapen = [], []
    for component, given in components.items():
        for name, shape in needed[component].items():
            if name not in given:
                missing.append(f"{component}.{name}")
            elif given[name].shape != shape:
                misshapen.append(f"{component}.{name} {tuple(given[name].shape)}, not {tuple(shape)}")
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    if any(faults.values()):
        raise CheckpointError(_describe(source, faults, list(tensors), path))
    return Taken(components, len(adapted), num_unneeded)


def _apply(rules: Sequence[Rule], published: str) -> tuple[str | None, str] | None:
    for rule in rules:
        if match := re.fullmatch(rule.pattern, published):
            return rule.component, match.expand(rule.name)
    return None


def _needed(source: Source, component: str, shapes: Mapping[str, torch.Size]) -> dict[str, torch.Size]:
    pattern = source.holds[component]
    return {name: shape for name, shape in shapes.items() if re.fullmatch(pattern, name)}


def _describe(
    source: Source, faults: Mapping[str, Sequence[str]], published: Sequence[str], path: Path
) -> str:
    counted = "; ".join(f"{len(names)} {fault} ({_first(names)})" for fault, names in faults.items() if names)
    return (
        f"{path}: not {source.title} of the size in params.yaml: {counted}. The file has {len(published)} "
        f"tensors, the first are {_first(sorted(published))}; expected are names such as "
        f"{source.example}. Get it from {source.url}."
    )


def _first(names: Sequence[str]) -> str:
    return ", ".join([*names[:_NUM_KEYS_SHOWN], *(["..."] if len(names) > _NUM_KEYS_SHOWN else [])])
