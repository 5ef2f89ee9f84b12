"""One run per stage: its time and peak memory in stage.json, its values and curves in MLflow.

MLflow is a view: nothing reads from it. Where it is not installed, or its server or database does not answer,
the stage says so once and goes on.
"""

import contextlib
import functools
import inspect
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from calico.core.files import write_json
from calico.errors import CalicoError

_LOGGER = logging.getLogger(__name__)
_NO_TAGS: Mapping[str, str] = MappingProxyType({})
_DEFAULT_URI = "sqlite:///mlflow.db"
_DEFAULT_ARTIFACTS = "mlartifacts"
# With MLflow's own values a server that does not answer holds a stage up for minutes.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_FLUSH_SECONDS = 5.0
_MAX_METRICS = 1000  # MLflow takes no more in one batch
_MAX_PARAMS = 100
_MAX_VALUE_CHARS = 6000
_MAX_REASON_CHARS = 200
_FAILURE_VARIABLE = "CALICO_FAILURE_RECORD"
_PARENT_VARIABLE = "CALICO_PARENT_RUN_ID"
_SYSTEM_METRICS_VARIABLE = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
_KILLED = "Killed"
_INTERRUPTED_CODES = (128 + signal.SIGINT, 128 + signal.SIGTERM)
# What may be gone on the next try: a network, a mount, a peer. A full disk reaches us as DataError.
_PASSING_FAULTS = (ConnectionError, TimeoutError, InterruptedError)
_PASSING_KINDS = (
    "DistBackendError",
    "DistNetworkError",
    "DistStoreError",
)  # torch.distributed: a peer was lost


class Run:
    """What a stage records while it works. Every method is a no-op once tracking is unavailable."""

    def __init__(self, open_store: Callable[[], "_Store"] | None = None) -> None:
        """Open the store, if there is one.

        Args:
            open_store: makes the MLflow side; None records nothing.
        """
        self._store: _Store | None = None
        if open_store is not None:
            self._store = self._attempt(open_store)

    @property
    def mlflow_run_id(self) -> str | None:
        """Id of the MLflow run, None where nothing is recorded."""
        return self._store.run_id if self._store else None

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers; they are sent in batches, and all of them before the run ends."""
        if self._store:
            self._attempt(self._store.add_metrics, metrics, step or 0)

    def log_figure(self, path: Path) -> None:
        """Record a picture or page that lies at `path`."""
        if self._store:
            self._attempt(self._store.add_file, Path(path))

    def log_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Record rows of equal keys as a table called `name`."""
        if self._store:
            self._attempt(self._store.add_table, name, rows)

    def close(self, status: str) -> None:
        """End the MLflow run.

        Args:
            status: "FINISHED", "FAILED" or "KILLED".
        """
        if self._store:
            self._attempt(self._store.close, status)
        self._store = None

    def _attempt(self, action: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except tracking_faults() as error:
            self._store = None
            _LOGGER.warning(
                "MLflow at %s is not usable (%s); the stage goes on without it.",
                tracking_uri(),
                _summary(error),
            )
            return None


class _Store:
    """An open MLflow run."""

    def __init__(self, name: str, profile: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        self._client, experiment_id = open_client(f"calico-{profile}")
        from mlflow.entities import Param

        self._metrics: list[Any] = []
        self._flushed = time.monotonic()
        run = self._client.create_run(experiment_id, run_name=name, tags=dict(tags))
        self.run_id: str = run.info.run_id
        self._monitor = _start_system_metrics(self.run_id)
        values = [Param(key, value[:_MAX_VALUE_CHARS]) for key, value in flatten(params).items()]
        for start in range(0, len(values), _MAX_PARAMS):
            self._client.log_batch(self.run_id, params=values[start : start + _MAX_PARAMS])

    def add_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        self._metrics += [Metric(key, float(value), now_ms, step) for key, value in metrics.items()]
        if len(self._metrics) >= _MAX_METRICS or time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._flush()

    def add_file(self, path: Path) -> None:
        self._client.log_artifact(self.run_id, str(path), "figures")

    def add_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        columns = list(rows[0]) if rows else []
        table = {"columns": columns, "data": [[row[key] for key in columns] for row in rows]}
        self._client.log_dict(self.run_id, table, f"tables/{name}.json")

    def close(self, status: str) -> None:
        if self._monitor is not None:
            self._monitor.finish()
        self._flush()
        self._client.set_terminated(self.run_id, status)

    def _flush(self) -> None:
        for start in range(0, len(self._metrics), _MAX_METRICS):
            self._client.log_batch(self.run_id, metrics=self._metrics[start : start + _MAX_METRICS])
        self._metrics = []
        self._flushed = time.monotonic()


@contextlib.contextmanager
def stage_run(
    name: str,
    profile: str,
    output_path: Path,
    *,
    params: Mapping[str, Any],
    tags: Mapping[str, str] = _NO_TAGS,
) -> Iterator[Run]:
    """Measure and record one stage; write `output_path/stage.json` once the block has ended without an error.

    The MLflow run is called `name`, in the experiment "calico-<profile>" of MLFLOW_TRACKING_URI (default: the
    file mlflow.db in the working directory). Only the process of rank 0 records.

    Args:
        name: the stage, followed by "/" and the model where a stage runs once a model.
        profile: "tiny" or "paper".
        output_path: the stage's folder of artefacts.
        params: the values that the stage reads, nested as they are in params.yaml.
        tags: what else tells this run from others.

    Raises:
        DataError: stage.json cannot be written.
    """
    started = time.monotonic()
    is_main = _rank() == 0
    parent = os.environ.get(_PARENT_VARIABLE)
    parent_tag = {"mlflow.parentRunId": parent} if parent else {}
    all_tags = {**origin_tags(), **parent_tag, "stage": name, "profile": profile, **tags}
    run = Run((lambda: _Store(name, profile, params, all_tags)) if is_main else None)
    try:
        yield run
        facts: dict[str, Any] = {
            "stage": name,
            "seconds": round(time.monotonic() - started, 3),
            "peak_gb": round(_peak_gb(), 3),
        }
        if is_main:
            run_id = {"mlflow_run_id": run.mlflow_run_id} if run.mlflow_run_id else {}
            write_json(Path(output_path) / "stage.json", {**facts, **run_id})
        run.log_metrics({"seconds": facts["seconds"], "peak_gb": facts["peak_gb"]})
    except (KeyboardInterrupt, SystemExit):  # a training that was told to stop exits
        run.close("KILLED")
        raise
    except BaseException:
        run.close("FAILED")
        raise
    run.close("FINISHED")


def exit_on_error(main: Callable[..., None]) -> Callable[..., None]:
    """Make a stage's `main` end the process as a user expects it.

    A CalicoError becomes one line on stderr and exit code 2; so does a wrong number of arguments.
    """
    signature = inspect.signature(main)

    @functools.wraps(main)
    def wrapper(*arguments: str) -> None:
        try:
            signature.bind(*arguments)
        except TypeError:
            module = Path(inspect.getfile(main)).stem
            names = " ".join(name.upper() for name in signature.parameters)
            sys.stderr.write(f"usage: python -m stages.{module} {names}\n")
            raise SystemExit(2) from None
        try:
            with failure_record():
                main(*arguments)
        except CalicoError as error:
            sys.stderr.write(f"error: {error}\n")
            raise SystemExit(2) from error

    return wrapper


@contextlib.contextmanager
def failure_record() -> Iterator[None]:
    """Tell whoever started this stage how it failed, in the JSON file that CALICO_FAILURE_RECORD names.

    DVC's exit code is the same for a full disk and a wrong value. The record has `kind` (class of the error),
    `message` and `retryable`. It is there from the start, so that it also tells of a process that was killed,
    and gone once the stage has succeeded. Of several ranks the first real failure counts: the others are only
    told to end.
    """
    named = os.environ.get(_FAILURE_VARIABLE)
    path = Path(named) if named else None
    if path is None:
        yield
        return
    if _rank() == 0:
        _write_failure(
            path, _KILLED, "its process ended without a word, as after kill -9 or out of memory", True
        )
    try:
        yield
    except BaseException as error:
        kind = type(error).__name__
        is_interrupted = isinstance(error, KeyboardInterrupt) or (
            isinstance(error, SystemExit) and error.code in _INTERRUPTED_CODES
        )
        if is_interrupted:
            kind = "Interrupted"
        if not is_interrupted or _failure_kind(path) in (None, _KILLED):
            may_pass = isinstance(error, _PASSING_FAULTS) or kind in _PASSING_KINDS
            _write_failure(path, kind, str(error), is_interrupted or may_pass)
        raise
    if _rank() == 0:
        path.unlink(missing_ok=True)


def _failure_kind(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_failure(path: Path, kind: str, message: str, is_retryable: bool) -> None:
    try:
        write_json(path, {"kind": kind, "message": message, "retryable": is_retryable})
    except CalicoError as error:  # the stage's own failure matters more than this record of it
        _LOGGER.warning("%s", error)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Turn nested values into dotted names with text values, as MLflow's params are."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat


def tracking_uri() -> str:
    """Return where MLflow keeps its runs: MLFLOW_TRACKING_URI, or a file in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _DEFAULT_URI


def tracking_faults() -> tuple[type[Exception], ...]:
    """Name what a missing package, a dead server or a damaged database raises."""
    faults: list[type[Exception]] = [ImportError, OSError]
    with contextlib.suppress(ImportError):
        from mlflow.exceptions import MlflowException

        faults.append(MlflowException)
    with contextlib.suppress(ImportError):  # mlflow-skinny, enough for a server, comes without these two
        from alembic.util import CommandError
        from sqlalchemy.exc import SQLAlchemyError

        faults += [SQLAlchemyError, CommandError]
    return tuple(faults)


def open_client(experiment: str) -> tuple[Any, str]:
    """Connect to MLflow with our patience; return its client and an experiment's id, made where missing."""
    for variable, value in _PATIENCE.items():
        os.environ.setdefault(variable, value)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri())
    return client, _experiment_id(client, experiment)


def _experiment_id(client: Any, name: str) -> str:
    """Find or create an experiment; two stages may be the first at once."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        is_default = tracking_uri() == _DEFAULT_URI
        try:
            location = Path(_DEFAULT_ARTIFACTS).absolute().as_uri() if is_default else None
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    return str(experiment.experiment_id)


def origin_tags() -> dict[str, str]:
    """Tell which code and which DVC stage made a run."""
    tags = {"mlflow.source.name": " ".join(sys.orig_argv[1:])}
    if commit := _git("rev-parse", "HEAD"):
        is_dirty = bool(_git("status", "--porcelain", "--untracked-files=no"))
        tags |= {"mlflow.source.git.commit": commit, "git.commit": commit, "git.dirty": str(is_dirty).lower()}
    for variable in ("DVC_STAGE", "DVC_EXP_NAME"):
        if value := os.environ.get(variable):
            tags[variable.lower().replace("_", ".", 1)] = value
    return tags


def _start_system_metrics(run_id: str) -> Any:
    """Record the machine's load beside the run where MLflow's own switch asks for it."""
    if os.environ.get(_SYSTEM_METRICS_VARIABLE, "").lower() not in ("1", "true"):
        return None
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, tracking_uri=tracking_uri())
    monitor.start()
    return monitor


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _peak_gb() -> float:
    """Return the largest resident set of any one process of this stage: itself or a finished child."""
    sizes = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(sizes) * 1024 / 1e9


def _summary(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:_MAX_REASON_CHARS]
