"""One run per stage: its time and peak memory in stage.json, its values and curves in MLflow.

MLflow is a view: nothing reads from it. Where it is not installed, or its server or database does not answer,
the stage says so once and goes on. What a server or database missed stays in a file below
artifacts/<profile>/unsent; `send_unsent` sends it later.
"""

import contextlib
import fcntl
import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from calico.core.files import write_json
from calico.errors import DataError

_LOGGER = logging.getLogger(__name__)
_NO_TAGS: Mapping[str, str] = MappingProxyType({})
_DEFAULT_URI = "sqlite:///mlflow.db"
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
_PARENT_VARIABLE = "CALICO_PARENT_RUN_ID"
_SYSTEM_METRICS_VARIABLE = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
_UNSENT = "unsent"


class Run:
    """What a stage records while it works. Nothing here ever stops the stage."""

    def __init__(
        self, open_store: Callable[[], "_Store"] | None = None, journal: "_Journal | None" = None
    ) -> None:
        """Open the store, if there is one; the journal keeps everything until MLflow has it."""
        self._journal = journal
        self._is_all_sent = True
        self._store: _Store | None = None
        if open_store is not None:
            self._store = self._attempt(open_store)
        if self._store:
            self._note("run", self._store.run_id)

    @property
    def mlflow_run_id(self) -> str | None:
        """Id of the MLflow run, None where nothing is recorded."""
        return self._store.run_id if self._store else None

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers; they are sent in batches, and all of them before the run ends."""
        self._record("add_metrics", dict(metrics), step or 0, int(time.time() * 1000))

    def log_figure(self, path: Path) -> None:
        """Record a picture or page that lies at `path`."""
        self._record("add_file", str(Path(path).absolute()))

    def log_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Record rows of equal keys as a table called `name`."""
        self._record("add_table", name, list(rows))

    def close(self, status: str) -> None:
        """End the MLflow run.

        Args:
            status: "FINISHED", "FAILED" or "KILLED".
        """
        self._record("close", status)
        self._store = None
        if self._journal is not None:
            self._journal.close(keep=not self._is_all_sent)

    def _record(self, action: str, *arguments: Any) -> None:
        self._note(action, *arguments)
        if self._store:
            self._attempt(getattr(self._store, action), *arguments)

    def _note(self, action: str, *arguments: Any) -> None:
        if self._journal is not None:
            try:
                self._journal.write(action, *arguments)
            except OSError as error:
                _LOGGER.warning("%s: cannot be written (%s).", self._journal.path, error.strerror)
                self._journal = None

    def _attempt(self, action: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except tracking_faults() as error:
            self._store = None
            # Without mlflow nobody waits for its records.
            self._is_all_sent = isinstance(error, ImportError)
            _LOGGER.warning(
                "MLflow at %s is not usable (%s); the stage goes on without it%s.",
                tracking_uri(),
                _summary(error),
                "" if self._is_all_sent or not self._journal else " and `calico track` sends the rest later",
            )
            return None


class _Journal:
    """JSON lines, locked while the stage runs: `_Store`'s arguments, then calls of its methods."""

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{run['name'].replace('/', '-')}-{time.time_ns()}-{os.getpid()}.jsonl"
        self._stream = self.path.open("x", encoding="utf-8", buffering=1)
        fcntl.flock(self._stream, fcntl.LOCK_EX)
        self._stream.write(json.dumps(run, default=str) + "\n")

    def write(self, action: str, *arguments: Any) -> None:
        self._stream.write(json.dumps([action, *arguments], default=float) + "\n")

    def close(self, *, keep: bool) -> None:
        self._stream.close()
        if not keep:
            self.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others' records stay
                self.path.parent.rmdir()
                self.path.parent.parent.rmdir()


def send_unsent(artifacts_path: Path) -> list[str]:
    """Send what MLflow missed of finished and killed stages; what was sent is deleted here.

    Returns:
        The names of the stages that were sent, e.g. "finetune/calico".

    Raises:
        DataError: MLflow is still not usable, or a file is damaged; the rest stays.
    """
    sent = []
    for path in sorted((artifacts_path / _UNSENT).glob("*.jsonl")):
        with path.open(encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # its stage still runs
            try:
                sent.append(_send(stream.read().splitlines()))
            except tracking_faults() as error:
                raise DataError(
                    f"MLflow at {tracking_uri()} is not usable ({_summary(error)}); {path} stays. "
                    "Try again later."
                ) from error
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{path}: damaged ({error}). Delete it to send the others.") from error
        path.unlink()
    return sent


def _send(lines: Sequence[str]) -> str:
    run = json.loads(lines[0])
    entries = [json.loads(line) for line in lines[1:]]
    started = next((arguments[0] for action, *arguments in entries if action == "run"), None)
    store = _Store(**run, run_id=started)
    actions: dict[str, Callable[..., None]] = {
        "add_metrics": store.add_metrics,
        "add_file": lambda path: store.add_file(path) if Path(path).is_file() else None,
        "add_table": store.add_table,
    }
    for action, *arguments in entries:
        if action in actions:
            actions[action](*arguments)
    store.close(next((arguments[0] for action, *arguments in entries if action == "close"), "KILLED"))
    return str(run["name"])


class _Store:
    """An open MLflow run."""

    def __init__(
        self,
        name: str,
        profile: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        *,
        run_id: str | None = None,
    ) -> None:
        self._client, experiment_id = open_client(f"calico-{profile}")
        self._metrics: list[Any] = []
        self._flushed = time.monotonic()
        self._monitor: Any = None
        if run_id is not None:  # the same point twice is one point
            self.run_id: str = self._client.get_run(run_id).info.run_id
            return
        run = self._client.create_run(experiment_id, run_name=name, tags=dict(tags))
        self.run_id = run.info.run_id
        self._monitor = _start_system_metrics(self.run_id)
        log_params(self._client, self.run_id, params)

    def add_metrics(self, metrics: Mapping[str, float], step: int, time_ms: int) -> None:
        from mlflow.entities import Metric

        self._metrics += [Metric(key, float(value), time_ms, step) for key, value in metrics.items()]
        if len(self._metrics) >= _MAX_METRICS or time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._flush()

    def add_file(self, path: str) -> None:
        self._client.log_artifact(self.run_id, path, "figures")

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
    is_main = os.environ.get("RANK", "0") == "0"
    parent = os.environ.get(_PARENT_VARIABLE)
    parent_tag = {"mlflow.parentRunId": parent} if parent else {}
    all_tags = {**origin_tags(), **parent_tag, "stage": name, "profile": profile, **tags}
    run = Run()
    if is_main:
        identity: dict[str, Any] = {"name": name, "profile": profile, "params": params, "tags": all_tags}
        journal = None
        with contextlib.suppress(OSError):  # the stage will say that nothing can be written
            journal = _Journal(_unsent_folder(Path(output_path), profile), identity)
        run = Run(lambda: _Store(**identity), journal)
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


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Turn nested values into dotted names with text values, as MLflow's params are."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat


def _unsent_folder(output_path: Path, profile: str) -> Path:
    """Return a folder outside the stages' own, which DVC deletes and whose manifests must stay true."""
    parents = (parent for parent in output_path.parents if parent.name == profile)
    return next(parents, output_path.parent) / _UNSENT


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
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri())
    if (found := client.get_experiment_by_name(experiment)) is not None:
        return client, str(found.experiment_id)
    location = Path("mlartifacts").absolute().as_uri() if tracking_uri() == _DEFAULT_URI else None
    try:
        return client, str(client.create_experiment(experiment, artifact_location=location))
    except MlflowException:
        if (found := client.get_experiment_by_name(experiment)) is None:
            raise
        return client, str(found.experiment_id)  # another stage was quicker


def log_params(client: Any, run_id: str, params: Mapping[str, Any]) -> None:
    """Record nested values of params.yaml under dotted names."""
    from mlflow.entities import Param

    values = [Param(key, value[:_MAX_VALUE_CHARS]) for key, value in flatten(params).items()]
    for start in range(0, len(values), _MAX_PARAMS):
        client.log_batch(run_id, params=values[start : start + _MAX_PARAMS])


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
