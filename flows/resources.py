"""What a stage needs of a machine, as resources.yaml says it."""

from dataclasses import dataclass
from pathlib import Path

import yaml

_PATH = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True)
class Resources:
    """Needs of one stage.

    Attributes:
        gpus: GPUs, and slots of the concurrency limit "gpu".
        nodes: machines of a Slurm job.
        minutes: deadline; None for none.
        alone: no other stage may run in the workspace meanwhile.
    """

    gpus: int = 0
    nodes: int = 1
    minutes: float | None = None
    alone: bool = False


def resources_of(stage: str, profile: str) -> Resources:
    """Return the needs of a stage.

    Args:
        stage: DVC's address, as "paper/dvc.yaml:finetune@lisa".
        profile: "tiny" or "paper".

    Raises:
        ValueError: resources.yaml names something unknown.
    """
    name = stage.rpartition(":")[2].partition("@")[0]
    values = (yaml.safe_load(_PATH.read_text(encoding="utf-8")).get(profile) or {}).get(name) or {}
    try:
        return Resources(**values)
    except TypeError as error:
        raise ValueError(f"{_PATH}: {profile}.{name}: {error}.") from error
