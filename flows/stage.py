"""One stage as a Prefect task: DVC runs it or finds it done; what went wrong decides whether to try again."""

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.concurrency.sync import concurrency

from flows.graph import DVC, python_environment
from flows.processes import CommandError, DeadlineError, run_command
from flows.resources import Resources
from flows.slurm import slurm_command

GPU_LIMIT = "gpu"
_FAILURE_VARIABLE = "CALICO_FAILURE_RECORD"
# A node that was lost may need the first of these, a full queue the second.
_RETRY_DELAYS_SECONDS = [30.0, 300.0]


class StageError(RuntimeError):
    """A stage failed.

    Attributes:
        kind: class of the error, as the stage's failure record has it.
        is_retryable: the same command may succeed later.
    """

    def __init__(self, stage: str, kind: str, message: str, is_retryable: bool) -> None:
        super().__init__(f"{stage}: {kind}: {message}")
        self.kind = kind
        self.is_retryable = is_retryable


@dataclass(frozen=True)
class StageRequest:
    """What the task needs to run a stage.

    Attributes:
        root: folder of the repository.
        stage: DVC's address.
        resources: what it needs of a machine.
        lock: descriptor of the workspace's lock.
        executor: "local" or "slurm".
        environment: variables added to this process's own.
    """

    root: Path
    stage: str
    resources: Resources
    lock: int
    executor: str = "local"
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StageOutcome:
    """How a stage ended.

    Attributes:
        stage: DVC's address.
        result: "ran", "restored" from DVC's run-cache, or "up to date".
        seconds: wall time of the DVC command.
    """

    stage: str
    result: str
    seconds: float


def _may_retry(task_: Any, task_run: Any, state: Any) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageError) and error.is_retryable


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(_RETRY_DELAYS_SECONDS),
    retry_delay_seconds=_RETRY_DELAYS_SECONDS,
    retry_condition_fn=_may_retry,
)
def reproduce(request: StageRequest) -> StageOutcome:
    """Let DVC run one stage, or find it up to date.

    Raises:
        StageError: the stage failed; tried again where its own record says that this may help.
    """
    log = get_run_logger().info
    if request.resources.gpus:
        # Not strict: a Prefect server that is away for some minutes must not end a training.
        with concurrency(GPU_LIMIT, occupy=request.resources.gpus, strict=False):
            return run_stage(request, log)
    return run_stage(request, log)


def run_stage(request: StageRequest, log: Callable[[str], object]) -> StageOutcome:
    """Run `dvc repro --single-item` for one stage.

    Args:
        request: the stage, where and how.
        log: is given each line of its output.

    Raises:
        StageError: the stage failed, or ran into its deadline.
    """
    started = time.monotonic()
    reader = _ResultReader(log)
    command = [*DVC, "--wait-for-lock", "repro", "--single-item", request.stage]
    if request.executor == "slurm":
        command = slurm_command(command, request.stage, request.resources)
    # Beside the lock: a Slurm job on another node sees the workspace, not this machine's /tmp.
    handle, name = tempfile.mkstemp(prefix="failure-", suffix=".json", dir=request.root / ".dvc" / "tmp")
    os.close(handle)
    record_path = Path(name)
    environment = python_environment({**request.environment, _FAILURE_VARIABLE: str(record_path.absolute())})
    minutes = request.resources.minutes
    try:
        run_command(
            command,
            request.root,
            reader.read,
            environment=environment,
            deadline_seconds=None if minutes is None or request.executor == "slurm" else minutes * 60,
            keep_open=[request.lock],
        )
    except DeadlineError as error:
        raise StageError(request.stage, "Deadline", str(error), False) from None
    except CommandError as error:
        raise _stage_error(request.stage, record_path, error) from None
    finally:
        record_path.unlink(missing_ok=True)
    return StageOutcome(request.stage, reader.result, round(time.monotonic() - started, 1))


def _stage_error(stage: str, record_path: Path, error: CommandError) -> StageError:
    """Read the stage's own record; where there is none the stage never started, and DVC's words count."""
    try:
        record = json.loads(record_path.read_text(encoding="utf-8"))
        return StageError(stage, str(record["kind"]), str(record["message"]), record["retryable"] is True)
    except (OSError, ValueError, KeyError, TypeError):
        return StageError(stage, "NotStarted", str(error), False)


class _ResultReader:
    """Passes DVC's lines on and remembers what it said that it does."""

    def __init__(self, log: Callable[[str], object]) -> None:
        self._log = log
        self.result = "up to date"

    def read(self, line: str) -> None:
        if line.startswith("Running stage "):
            self.result = "ran"
        elif line.startswith("Stage ") and " is cached - skipping run" in line:
            self.result = "restored"
        self._log(line)
