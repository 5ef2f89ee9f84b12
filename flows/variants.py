"""Baselines and ablations side by side: each in a git worktree, then one repro that finds their results."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.graph import python_environment, stage_order
from flows.pipeline import update
from flows.processes import end_all, run_command
from flows.resources import resources_of
from flows.stage import StageRequest, run_stage
from flows.workspace import only_writer
from flows.worktrees import require_committed, shared_cache, worktree

_MODEL = "calico"
_THREADS: Any = ThreadPoolTaskRunner(max_workers=64)


@dataclass(frozen=True)
class Variant:
    """Stages of a profile with other values.

    Attributes:
        name: of its worktree.
        targets: stages to bring up to date with all that they need.
        changes: values of params.yaml by dotted name.
    """

    name: str
    targets: tuple[str, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)


@flow(name="calico-baselines", task_runner=_THREADS, persist_result=False)
def baselines(
    profile: str = "tiny", models: Sequence[str] = ("lisa", "glamm"), root: Path = Path(), parallel: int = 2
) -> list[str]:
    """Train and ask several models at once, then let the workspace find their results in the run-cache.

    Args:
        profile: "tiny" or "paper".
        models: what `predict@` stages there are to run.
        root: folder of the repository; its tracked files must be committed.
        parallel: how many worktrees may work at once.

    Returns:
        Stages of the final repro that ran because no variant had made them.
    """
    variants = [Variant(f"{profile}-{model}", (f"predict@{model}",)) for model in models]
    with only_writer(root, str(flow_run.get_name())) as lock:
        require_committed(root)
        try:
            _run_all(variants, profile, root, lock, parallel)
        finally:
            end_all()
        return [outcome.stage for outcome in update(profile, root, lock) if outcome.result == "ran"]


@flow(name="calico-ablations", task_runner=_THREADS, persist_result=False)
def ablations(
    profile: str = "tiny", names: Sequence[str] = (), root: Path = Path(), parallel: int = 2
) -> dict[str, dict[str, float]]:
    """Train CALICO as each ablation of a profile and score it on the same pairs.

    Args:
        profile: "tiny" or "paper".
        names: keys of the profile's `ablations`; none means all.
        root: folder of the repository; its tracked files must be committed.
        parallel: how many worktrees may work at once.

    Returns:
        Mean metrics of each ablation, in [0, 1].

    Raises:
        ValueError: no such ablation.
    """
    known = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))[profile]["ablations"]
    if unknown := set(names) - set(known):
        raise ValueError(f"No ablation {', '.join(sorted(unknown))}; choose of {', '.join(known)}.")
    variants = [
        Variant(name, (f"predict@{_MODEL}",), {f"{profile}.model.variants.{_MODEL}": known[name]})
        for name in names or known
    ]
    with only_writer(root, str(flow_run.get_name())) as lock:
        require_committed(root)
        try:
            scores = _run_all(variants, profile, root, lock, parallel)
        finally:
            end_all()
    found = {name: dict(score["mean"]) for name, score in scores.items() if score}
    create_markdown_artifact(_table(found), key=f"calico-{profile}-ablations")
    return found


def _run_all(
    variants: Sequence[Variant], profile: str, root: Path, lock: int, parallel: int
) -> dict[str, dict[str, Any]]:
    cache = shared_cache(root)
    waiting = list(variants)
    scores: dict[str, dict[str, Any]] = {}
    while waiting:  # in batches: a worktree takes the disk of a whole workspace
        batch, waiting = waiting[:parallel], waiting[parallel:]
        futures = {
            variant.name: run_variant.with_options(task_run_name=variant.name).submit(
                variant, profile, root, cache, lock
            )
            for variant in batch
        }
        scores |= {name: future.result() for name, future in futures.items()}
    return scores


@task(cache_policy=NO_CACHE, persist_result=False)
def run_variant(variant: Variant, profile: str, root: Path, cache: Path, lock: int) -> dict[str, Any]:
    """Run a variant's stages in a worktree of its own; return its scores where it changed a model."""
    log = get_run_logger().info
    # A run belongs to the workspace's MLflow: the worktree goes.
    database = f"sqlite:///{root.absolute()}/mlflow.db"
    environment = {"MLFLOW_TRACKING_URI": os.environ.get("MLFLOW_TRACKING_URI") or database}
    with worktree(root, variant.name, variant.changes, cache) as folder:
        (folder / ".dvc" / "tmp").mkdir(parents=True, exist_ok=True)
        for stage in stage_order(folder, profile, variant.targets):
            resources = resources_of(stage, profile)
            run_stage(StageRequest(folder, stage, resources, lock, environment=environment), log)
        return _score(folder, profile, log) if variant.changes else {}


def _score(folder: Path, profile: str, log: Callable[[str], object]) -> dict[str, Any]:
    """Score CALICO's answers alone: the evaluate stage would want every baseline trained anew."""
    artifacts, answer_path = Path("artifacts") / profile, folder / "variant-metrics.json"
    command = [
        *(sys.executable, "-m", "calico", "evaluate"),
        str(artifacts / "predict" / _MODEL / "predictions.parquet"),
        *("--pairs", str(artifacts / "pair" / "test.parquet"), "--truth", str(artifacts / "unify")),
        *("--profile", profile, "--out", str(answer_path)),
    ]
    run_command(command, folder, log, environment=python_environment())
    return dict(json.loads(answer_path.read_text(encoding="utf-8"))["scores"])


def _table(scores: Mapping[str, Mapping[str, float]]) -> str:
    names = list(next(iter(scores.values()), {}))
    lines = [f"| ablation | {' | '.join(names)} |", f"|---{'|---' * len(names)}|"]
    for ablation, values in scores.items():
        lines.append(f"| {ablation} | {' | '.join(f'{100 * values[name]:.1f}' for name in names)} |")
    return "\n".join(lines)
