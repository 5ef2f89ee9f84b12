"""The values of a training section that lower its need of memory and leave the effective batch as it is."""

from collections.abc import Iterator, Mapping
from typing import Any

from calico.config import TrainSection


def switches(section: TrainSection) -> Iterator[dict[str, Any]]:
    """Yield values that need less and less memory, at the same effective batch; the first changes nothing.

    What costs no time comes first: a cache of features; then gradient checkpointing, which costs a third
    more; then smaller micro-batches.
    """
    cached: dict[str, Any] = {"feature_cache": "disk"} if section.feature_cache == "none" else {}
    checkpointed = {} if section.gradient_checkpointing else {"gradient_checkpointing": True}
    for batch_size in range(section.batch_size, 0, -1):
        if section.batch_size % batch_size:
            continue
        accumulation = section.accumulation * section.batch_size // batch_size
        smaller = {"batch_size": batch_size, "accumulation": accumulation}
        if batch_size == section.batch_size:
            smaller = {}
        found: list[dict[str, Any]] = []
        for values in ({}, cached, {**cached, **checkpointed}):
            if (together := {**values, **smaller}) not in found:
                found.append(together)
        yield from found


def advice(section: TrainSection) -> str:
    """Return in words which value to change next when memory runs out."""
    options = [as_yaml(values) for values in switches(section) if values]
    if not options:
        return "batch_size is 1 and gradient_checkpointing is on: a larger GPU is needed."
    return f"Set {options[0]}; if that is not enough: {'; '.join(options[1:3]) or 'use a larger GPU'}."


def as_yaml(values: Mapping[str, Any]) -> str:
    """Return values as they are written in params.yaml."""
    return ", ".join(f"{name}: {str(value).lower()}" for name, value in values.items())
