"""A rehearsal of the whole thing from nothing, on this machine, cleaned up afterwards.

python -m flows.rehearsal FOLDER [NAME=VALUE ...]

PostgreSQL, Prefect and MLflow servers and a worker on loopback; a clone of the committed repository; the
deployment `tiny` with a schedule of once a minute until two runs have completed, of which the second finds
nothing to do; then a headless browser opens MLflow's pages of runs. FOLDER gets the pictures, what each stage
did in both runs, and the logs. NAME=VALUE are values of the clone's params.yaml, as
tiny.finetune.num_steps=3.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import services
from flows.graph import DVC, python_environment
from flows.worktrees import change_params

_ROOT = Path(__file__).parents[1]
# The tiny pipeline takes some 18 minutes on two free cores; busy ones may take many times that.
_RUN_SECONDS = 6 * 3600.0
# Wide beside MLflow's two panels, tall enough for the table of metrics.
_WINDOW = "2400,2600"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_DEPLOYMENT = "calico/tiny"
_STAGES = "calico-tiny-stages"


def main(folder: Path, changes: Mapping[str, Any], root: Path = _ROOT) -> list[dict[str, str]]:
    """Rehearse; return what each stage did, for the first and the second run.

    Args:
        folder: gets pictures, tables and logs.
        changes: values of params.yaml by dotted name.
        root: the repository that is cloned.

    Raises:
        RuntimeError: a run did not complete, or the second one was not idle.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="calico-rehearsal-") as name:
        place = Path(name)
        place.chmod(0o755)  # PostgreSQL runs as another user
        try:
            return _rehearse(place, folder, changes, root)
        finally:
            for log_path in place.glob("*/log.txt"):
                shutil.copy(log_path, folder / f"{log_path.parent.name}.log")


def _rehearse(place: Path, folder: Path, changes: Mapping[str, Any], root: Path) -> list[dict[str, str]]:
    clone = _clone(root, place / "clone", changes)
    with contextlib.ExitStack() as stack:
        databases = stack.enter_context(_databases(place / "postgres"))
        prefect = stack.enter_context(
            services.running(services.prefect_server(place / "prefect", databases.get("prefect", "")))
        )
        mlflow = stack.enter_context(
            services.running(services.mlflow_server(place / "mlflow", databases.get("mlflow", "")))
        )
        environment = {
            "PREFECT_HOME": str(place / "worker"),
            "PREFECT_API_URL": services.api_url(prefect),
            "MLFLOW_TRACKING_URI": services.tracking_uri(mlflow),
            "CALICO_ROOT": str(clone),
        }
        subprocess.run(
            [sys.executable, "-m", "flows.setup"], cwd=clone, env=python_environment(environment), check=True
        )
        worker = services.prefect_worker(place / "worker", prefect, "calico-process", environment)
        stack.enter_context(services.running(worker))
        with (
            temporary_settings({PREFECT_API_URL: services.api_url(prefect)}),
            get_client(sync_client=True) as client,
        ):
            results = [_next_run(client, number) for number in range(2)]
        (folder / "stages.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        _photograph(services.tracking_uri(mlflow), folder)
    if set(results[1].values()) != {"up to date"}:
        raise RuntimeError(f"The second run was not idle: {results[1]}.")
    return results


def _clone(root: Path, clone: Path, changes: Mapping[str, Any]) -> Path:
    subprocess.run(["git", "clone", "--quiet", str(root), str(clone)], check=True)
    if not (clone / ".dvc").is_dir():
        subprocess.run([*DVC, "init", "--quiet"], cwd=clone, env=python_environment(), check=True)
    if changes:
        change_params(clone / "params.yaml", changes)
    return clone


@contextlib.contextmanager
def _databases(folder: Path) -> Iterator[Mapping[str, str]]:
    """Yield the servers' databases; without PostgreSQL they use SQLite, and this says so."""
    if services.postgres_binaries() is None:
        sys.stdout.write("PostgreSQL is not installed: SQLite instead.\n")
        yield {}
        return
    with services.postgres(folder, ["prefect", "mlflow"]) as address:
        yield {
            "prefect": f"postgresql+asyncpg://{address}/prefect",
            "mlflow": f"postgresql+psycopg2://{address}/mlflow",
        }


def _next_run(client: SyncPrefectClient, number: int) -> dict[str, str]:
    """Let the schedule start one run and wait for its end; return what each stage did."""
    deployment = client.read_deployment_by_name(_DEPLOYMENT)
    for schedule in client.read_deployment_schedules(deployment.id):
        client.delete_deployment_schedule(deployment.id, schedule.id)
    every_minute = CronSchedule(cron="* * * * *", timezone="UTC")
    client.create_deployment_schedules(
        deployment.id, [DeploymentScheduleCreate(schedule=every_minute, active=True)]
    )
    deadline = time.monotonic() + _RUN_SECONDS
    while len(ended := _ended_runs(client, deployment.id)) <= number:
        if time.monotonic() > deadline:
            raise RuntimeError(f"Run {number + 1} of {_DEPLOYMENT} did not end within {_RUN_SECONDS:g} s.")
        time.sleep(1)
    if not ended[number].state.is_completed():
        raise RuntimeError(f"Run {number + 1} of {_DEPLOYMENT}: {ended[number].state}.")
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[_STAGES]))
    artifacts = client.read_artifacts(artifact_filter=wanted)
    (table,) = [artifact.data for artifact in artifacts if artifact.flow_run_id == ended[number].id]
    rows = [line.strip("| ").split(" | ") for line in str(table).splitlines()[2:]]
    return {row[0]: row[1] for row in rows}


def _ended_runs(client: SyncPrefectClient, deployment_id: UUID) -> list[Any]:
    """List the runs that ended, oldest first; those that the limit of one cancelled do not count.

    The server filters: of a long run's many cancelled and scheduled ones it would list only the first 200.
    """
    chosen = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
    states = FlowRunFilterStateType(any_=[StateType.COMPLETED, StateType.FAILED, StateType.CRASHED])
    ended = FlowRunFilter(state=FlowRunFilterState(type=states))
    runs = client.read_flow_runs(deployment_filter=chosen, flow_run_filter=ended)
    return sorted(runs, key=lambda run: run.end_time or run.expected_start_time)


def _photograph(address: str, folder: Path) -> None:
    """Open MLflow's list of runs, charts and comparison of the two pipelines in a headless browser."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.stdout.write("No Chromium found: no pictures.\n")
        return
    answer = subprocess.run(
        [sys.executable, "-m", "calico.comparison", "pages", "tiny"],
        cwd=_ROOT,
        env=python_environment({"MLFLOW_TRACKING_URI": address}),
        check=True,
        capture_output=True,
        text=True,
    )
    for name, url in json.loads(answer.stdout.splitlines()[-1]).items():
        with tempfile.TemporaryDirectory(prefix="calico-browser-") as home:
            options = [
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={home}",
            ]
            options += [f"--window-size={_WINDOW}", "--virtual-time-budget=30000"]
            picture = f"--screenshot={(folder / f'mlflow-{name}.png').absolute()}"
            subprocess.run([browser, *options, picture, url], check=True, capture_output=True, timeout=180)


def _parse(arguments: Sequence[str]) -> dict[str, Any]:
    return {name: yaml.safe_load(value) for name, _, value in (word.partition("=") for word in arguments)}


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m flows.rehearsal FOLDER [NAME=VALUE ...]")
    # As an exception, so that the servers end and the folders go.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    for number, stages in enumerate(main(Path(sys.argv[1]), _parse(sys.argv[2:])), start=1):
        sys.stdout.write(f"run {number}: {', '.join(f'{name} {what}' for name, what in stages.items())}\n")
