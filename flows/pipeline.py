"""The pipeline under Prefect: DVC's own graph, one task per stage, side by side where the graph allows it.

python -m flows.pipeline [PROFILE [STAGE ...]]
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.futures import as_completed
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.graph import addresses, stage_graph, stage_order
from flows.processes import end_all
from flows.records import RunRecord, publish
from flows.resources import Resources, resources_of
from flows.stage import StageOutcome, StageRequest, reproduce
from flows.workspace import only_writer

# How many stages run at once is `parallel`'s to say; threads only wait for processes.
_THREADS: Any = ThreadPoolTaskRunner(max_workers=64)
_EVALUATION = ("evaluate", "report")


@flow(name="calico", task_runner=_THREADS, persist_result=False)
def pipeline(
    profile: str = "tiny",
    targets: Sequence[str] = (),
    root: Path = Path(),
    parallel: int = 1,
    executor: str = "local",
) -> list[str]:
    """Bring a profile's stages up to date.

    Args:
        profile: "tiny" or "paper".
        targets: stages to bring up to date with all that they need; none means the whole pipeline.
        root: folder of the repository.
        parallel: how many stages may run at once.
        executor: "local", or "slurm" for each stage as a Slurm job.

    Returns:
        The stages in the order in which they ended.

    Raises:
        WorkspaceBusyError: another flow run works in this workspace.
        StageError: a stage failed; those that ran beside it were waited for.
    """
    if executor == "slurm" and parallel > 1:
        raise ValueError("executor 'slurm' runs one stage at a time: DVC's locks do not cross nodes.")
    return _run(stage_graph(root, profile, targets), profile, root, parallel=parallel, executor=executor)


@flow(name="calico-evaluate", task_runner=_THREADS, persist_result=False)
def evaluate(profile: str = "tiny", root: Path = Path()) -> list[str]:
    """Score the predictions that are there and write the report; nothing before them runs.

    Args:
        profile: "tiny" or "paper".
        root: folder of the repository.
    """
    known = set(addresses(profile, _EVALUATION))
    order = [stage for stage in stage_order(root, profile) if stage in known]
    chain = {stage: set(order[:position]) for position, stage in enumerate(order)}
    return _run(chain, profile, root, parallel=1, executor="local")


def update(profile: str, root: Path, lock: int) -> list[StageOutcome]:
    """Bring the whole pipeline up to date, stage after stage, in a flow that holds the workspace's lock."""
    graph = stage_graph(root, profile)
    outcomes: list[StageOutcome] = []
    run_graph(graph, _requests(graph, StageRequest(root, "", Resources(), lock), profile), 1, outcomes)
    return outcomes


def _requests(stages: Iterable[str], template: StageRequest, profile: str) -> dict[str, StageRequest]:
    return {stage: replace(template, stage=stage, resources=resources_of(stage, profile)) for stage in stages}


def _run(
    graph: Mapping[str, set[str]], profile: str, root: Path, *, parallel: int, executor: str
) -> list[str]:
    name = str(flow_run.get_name() or "a run without Prefect's server")
    with only_writer(root, name) as lock:
        record = RunRecord.open(root, profile, name, str(flow_run.get_id() or ""), get_run_logger().info)
        template = StageRequest(root, "", Resources(), lock, executor, record.environment)
        requests = _requests(graph, template, profile)
        outcomes: list[StageOutcome] = []
        status = "FAILED"
        try:
            run_graph(graph, requests, parallel, outcomes)
            status = "FINISHED"
        finally:
            end_all()
            record.close(status, outcomes)
            publish(root, profile, outcomes, record)
    return [outcome.stage for outcome in outcomes]


def run_graph(
    graph: Mapping[str, set[str]],
    requests: Mapping[str, StageRequest],
    parallel: int,
    outcomes: list[StageOutcome],
) -> None:
    """Run each stage once all that it needs is done; after a failure start no other.

    Args:
        graph: the stages that each stage needs.
        requests: how to run each.
        parallel: how many may run at once; one that must be alone runs alone.
        outcomes: is given how each stage ended, in that order.

    Raises:
        StageError: the first failure, once all that was running has ended.
    """
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    waiting: list[str] = []
    running: dict[Any, str] = {}
    failure: BaseException | None = None
    while True:
        waiting += sorter.get_ready()
        while failure is None and (stage := _next(waiting, list(running.values()), requests, parallel)):
            waiting.remove(stage)
            running[reproduce.with_options(task_run_name=stage).submit(requests[stage])] = stage
        if not running:
            break
        future = next(iter(as_completed(list(running))))
        stage = running.pop(future)
        outcome = future.result(raise_on_failure=False)
        if isinstance(outcome, StageOutcome):
            outcomes.append(outcome)
            sorter.done(stage)
        elif failure is None:
            failure = outcome
    if failure is not None:
        raise failure


def _next(
    waiting: Sequence[str], running: Sequence[str], requests: Mapping[str, StageRequest], parallel: int
) -> str | None:
    """Choose a stage that may start beside those that run."""
    if len(running) >= parallel or any(requests[stage].resources.alone for stage in running):
        return None
    for stage in waiting:
        if not running or not requests[stage].resources.alone:
            return stage
    return None


if __name__ == "__main__":
    pipeline(profile=(sys.argv[1:] or ["tiny"])[0], targets=sys.argv[2:])
