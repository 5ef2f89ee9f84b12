"""The pipeline under Prefect: DVC's own graph, one task per stage, in an order that the graph allows.

python -m flows.pipeline [PROFILE [STAGE ...]]
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from graphlib import TopologicalSorter
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.processes import run_command

PIPELINES = {"tiny": "dvc.yaml", "paper": "paper/dvc.yaml"}
_DVC = (sys.executable, "-m", "dvc")
_NODE = re.compile(r'"([^"]+)"(?: -> "([^"]+)")?;')


@flow(name="calico")
def pipeline(profile: str = "tiny", targets: Sequence[str] = (), root: Path = Path()) -> list[str]:
    """Bring a profile's stages up to date.

    Args:
        profile: "tiny" or "paper".
        targets: stages to bring up to date with all that they need; none means the whole pipeline.
        root: folder of the repository.

    Returns:
        The stages in the order in which they ran.
    """
    stages = stage_order(root, profile, targets)
    for stage in stages:
        reproduce.with_options(task_run_name=stage)(root, stage)
    return stages


@task(cache_policy=NO_CACHE, persist_result=False)
def reproduce(root: Path, stage: str) -> None:
    """Let DVC run one stage, or find it up to date.

    Raises:
        CommandError: the stage failed.
    """
    command = [*_DVC, "--wait-for-lock", "repro", "--single-item", stage]
    run_command(command, root, get_run_logger().info, environment=_environment())


def stage_order(root: Path, profile: str, targets: Sequence[str] = ()) -> list[str]:
    """Ask DVC for the graph and sort it, each stage after those it depends on.

    Raises:
        ValueError: no such profile.
        subprocess.CalledProcessError: DVC cannot read the pipeline, or a target is not in it.
    """
    if profile not in PIPELINES:
        raise ValueError(f"No profile '{profile}'; choose one of {', '.join(PIPELINES)}.")
    pipeline_file = PIPELINES[profile]
    prefix = "" if pipeline_file == "dvc.yaml" else f"{pipeline_file}:"
    predecessors: dict[str, set[str]] = {}
    for target in [f"{prefix}{name}" for name in targets] or [pipeline_file]:
        graph = subprocess.run(
            [*_DVC, "dag", "--dot", target],
            cwd=root,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
        ).stdout
        for first, second in _NODE.findall(graph):
            predecessors.setdefault(second or first, set())
            if second:
                predecessors[second].add(first)
    return list(TopologicalSorter(predecessors).static_order())


def _environment() -> dict[str, str]:
    """Return this process's environment, with `python` in a stage's command meaning this Python."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }


if __name__ == "__main__":
    pipeline(profile=(sys.argv[1:] or ["tiny"])[0], targets=sys.argv[2:])
