"""DVC's graph: what there is to run, and what must come before what."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path

PIPELINES = {"tiny": "dvc.yaml", "paper": "paper/dvc.yaml"}
DVC = (sys.executable, "-m", "dvc")
_NODE = re.compile(r'"([^"]+)"(?: -> "([^"]+)")?;')


def stage_graph(root: Path, profile: str, targets: Sequence[str] = ()) -> dict[str, set[str]]:
    """Ask DVC for the stages of a profile and what each needs.

    Args:
        root: folder of the repository.
        profile: "tiny" or "paper".
        targets: stages to bring up to date with all that they need; none means the whole pipeline.

    Returns:
        The stages that each stage needs directly, by their DVC address.

    Raises:
        ValueError: no such profile, or DVC cannot read the pipeline or finds no such stage.
    """
    predecessors: dict[str, set[str]] = {}
    for target in addresses(profile, targets) or [PIPELINES[profile]]:
        answer = subprocess.run(
            [*DVC, "dag", "--dot", target],
            cwd=root,
            check=False,
            capture_output=True,
            text=True,
            env=python_environment(),
        )
        if answer.returncode != 0:
            raise ValueError(f"DVC cannot say what '{target}' needs: {answer.stderr.strip()}")
        for first, second in _NODE.findall(answer.stdout):
            predecessors.setdefault(second or first, set())
            if second:
                predecessors[second].add(first)
    return predecessors


def addresses(profile: str, stages: Sequence[str]) -> list[str]:
    """Return the DVC addresses of a profile's stages.

    Raises:
        ValueError: no such profile.
    """
    if profile not in PIPELINES:
        raise ValueError(f"No profile '{profile}'; choose one of {', '.join(PIPELINES)}.")
    prefix = "" if PIPELINES[profile] == "dvc.yaml" else f"{PIPELINES[profile]}:"
    return [f"{prefix}{name}" for name in stages]


def stage_order(root: Path, profile: str, targets: Sequence[str] = ()) -> list[str]:
    """List the stages, each after those it depends on."""
    return list(TopologicalSorter(stage_graph(root, profile, targets)).static_order())


def python_environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment, with `python` in a stage's command meaning this Python."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        **(changes or {}),
    }
