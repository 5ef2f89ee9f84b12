"""Flows with a real Prefect server, worker, MLflow server and PostgreSQL on loopback; any may die."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dvc", reason="the extra 'pipeline' is not installed")
pytest.importorskip("prefect", reason="the extra 'orchestrate' is not installed")

from flows import services
from flows.graph import python_environment
from flows.services import Service
from tests.integration.small_repository import ROOT, make_repository, processes_in

mlflow = pytest.importorskip("mlflow", reason="the extra 'track' is not installed")

pytestmark = pytest.mark.integration
_SECONDS = 180.0


@dataclass
class Site:
    """A Prefect server, a worker, an MLflow server and the workspace that they serve."""

    prefect: Service
    worker: Service
    mlflow: Service
    folder: Path
    repository: Path

    @property
    def environment(self) -> dict[str, str]:
        return python_environment(
            {
                "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
                "PREFECT_HOME": str(self.folder / "home"),
                "PREFECT_API_URL": services.api_url(self.prefect),
                "MLFLOW_TRACKING_URI": services.tracking_uri(self.mlflow),
                "CALICO_ROOT": str(self.repository),
            }
        )

    def api(self, call: Callable[[Any], Any]) -> Any:
        """Ask the Prefect server."""
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with (
            temporary_settings({PREFECT_API_URL: services.api_url(self.prefect)}),
            get_client(sync_client=True) as client,
        ):
            return call(client)

    def start_flow(self) -> "subprocess.Popen[str]":
        """Start the pipeline as a person does, with the server recording it."""
        return subprocess.Popen(
            [sys.executable, "-m", "flows.pipeline", "tiny"],
            cwd=self.repository,
            env={
                **self.environment,
                "PYTHONPATH": os.pathsep.join([str(self.repository), self.environment["PYTHONPATH"]]),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def metrics(self) -> bytes:
        return (self.repository / "artifacts/tiny/evaluate/metrics.json").read_bytes()


def wait_for(found: Callable[[], Any], what: str, seconds: float = _SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)
    return answer


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """PostgreSQL where it is installed, SQLite elsewhere: a dead server must harm neither."""
    pytest.importorskip("psycopg2", reason="psycopg2 (extra 'dev') is not installed")
    if services.postgres_binaries() is None:
        pytest.skip("PostgreSQL is not installed")
    folder = Path("/tmp") / f"calico-postgres-{os.getpid()}"  # the user postgres cannot enter pytest's folder
    with services.postgres(folder, ["prefect", "mlflow"]) as address:
        yield {
            "prefect": f"postgresql+asyncpg://{address}/prefect",
            "mlflow": f"postgresql+psycopg2://{address}/mlflow",
        }
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, databases: dict[str, str]) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    repository = folder / "repository"
    repository.mkdir()
    make_repository(repository)
    prefect = services.prefect_server(folder / "prefect", databases["prefect"])
    tracking = services.mlflow_server(folder / "mlflow", databases["mlflow"])
    with services.running(prefect), services.running(tracking):
        found = Site(prefect, prefect, tracking, folder, repository)
        found.worker = services.prefect_worker(
            folder / "worker", prefect, "calico-process", {**found.environment}
        )
        subprocess.run(
            [sys.executable, "-m", "flows.setup", "--gpus", "2"], cwd=ROOT, env=found.environment, check=True
        )
        with services.running(found.worker):
            yield found


def test_setup_may_run_again(site: Site) -> None:
    def everything(client: Any) -> tuple[list[str], list[str], int]:
        deployments = sorted(deployment.name for deployment in client.read_deployments())
        pools = sorted(pool.name for pool in client.read_work_pools())
        return deployments, pools, client.read_global_concurrency_limit_by_name("gpu").limit

    before = site.api(everything)
    subprocess.run(
        [sys.executable, "-m", "flows.setup", "--gpus", "3"], cwd=ROOT, env=site.environment, check=True
    )
    deployments, pools, gpus = site.api(everything)

    assert (deployments, pools) == before[:2]
    assert (before[2], gpus) == (2, 3)
    assert deployments == sorted(
        ["ablations", "evaluate", "nightly-smoke", "paper", "paper-kubernetes", "paper-slurm", "tiny"]
    )
    assert {"calico-process", "calico-slurm", "calico-kubernetes"} <= set(pools)


def test_schedule_runs_the_pipeline_and_then_finds_nothing_to_do(site: Site) -> None:
    """Cron's smallest step is a minute; the second run is asked for by hand, as a schedule asks."""
    deployment = site.api(lambda client: client.read_deployment_by_name("calico/tiny"))
    assert deployment.global_concurrency_limit.limit == 1

    stages = []
    for _ in range(2):
        run = site.api(lambda client: client.create_flow_run_from_deployment(deployment.id))

        def ended(run_id: Any = run.id) -> Any:
            state = site.api(lambda client: client.read_flow_run(run_id)).state
            return state if state.is_final() else None

        assert wait_for(ended, "the flow run").is_completed()
        stages.append(stage_results(site))

    assert stages[0] == {"data": "ran", "train": "ran", "evaluate": "ran"}
    assert stages[1] == dict.fromkeys(("data", "train", "evaluate"), "up to date")


def stage_results(site: Site) -> dict[str, str]:
    """Read the newest table of stages that a flow left in Prefect."""
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["calico-tiny-stages"]))
    (artifact, *_) = site.api(
        lambda client: client.read_artifacts(artifact_filter=wanted, sort="CREATED_DESC", limit=1)
    )
    rows = [line.strip("| ").split(" | ") for line in artifact.data.splitlines()[2:]]
    return {row[0]: row[1] for row in rows}


def test_mlflow_shows_the_stages_below_their_pipeline(site: Site) -> None:
    client = mlflow.MlflowClient(services.tracking_uri(site.mlflow))
    experiment = client.get_experiment_by_name("calico-tiny").experiment_id
    runs = client.search_runs([experiment], order_by=["attributes.start_time ASC"])
    pipelines = [run for run in runs if run.data.tags["stage"] == "pipeline"]
    children = {
        parent.info.run_id: [
            run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
        ]
        for parent in pipelines
    }
    first, second = (children[parent.info.run_id] for parent in pipelines[:2])

    assert {run.data.tags["stage"] for run in first} == {"data", "train", "evaluate"}
    made_by = {run.data.tags["stage"]: run.info.run_id for run in first}
    assert {run.data.tags["stage"]: run.data.tags["calico.restored_from"] for run in second} == made_by
    assert pipelines[0].data.metrics["calico/mean/mIoU"] == pytest.approx(0.19)
    assert pipelines[0].data.tags["prefect.flow_run_id"]


def stage_process() -> int | None:
    """Return the process of the train stage."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if words[1:4] == [b"-m", b"stages.work", b"train"]:
                return int(path.parent.name)
    return None


def forget_training(site: Site) -> None:
    """Make every stage run again, though its outputs are there."""
    (site.repository / "dvc.lock").unlink(missing_ok=True)
    shutil.rmtree(site.repository / ".dvc/cache/runs", ignore_errors=True)


def start_training_again(site: Site) -> tuple["subprocess.Popen[str]", int]:
    """Start a flow whose train stage has to run, and return it with that stage's process in the middle."""
    forget_training(site)
    flow = site.start_flow()
    process_id = wait_for(stage_process, "the train stage")
    time.sleep(1.0)
    return flow, process_id


@pytest.fixture(scope="module")
def finished(site: Site) -> bytes:
    """metrics.json of an undisturbed run."""
    flow = site.start_flow()
    output, _ = flow.communicate(timeout=_SECONDS)
    assert flow.returncode == 0, output
    return site.metrics()


def assert_whole_again(site: Site, expected: bytes) -> None:
    wait_for(lambda: not processes_in(site.repository), "the last process to end", 30)
    flow = site.start_flow()
    output, _ = flow.communicate(timeout=_SECONDS)

    assert flow.returncode == 0, output
    assert site.metrics() == expected
    assert not list(site.repository.rglob("*.calico-partial"))
    assert processes_in(site.repository) == []


def test_killed_stage(site: Site, finished: bytes) -> None:
    flow, process_id = start_training_again(site)

    os.kill(process_id, signal.SIGKILL)
    output, _ = flow.communicate(timeout=_SECONDS)

    assert flow.returncode == 0, output
    assert "Retry 1/2" in output
    assert site.metrics() == finished
    assert_whole_again(site, finished)


def test_killed_flow(site: Site, finished: bytes) -> None:
    flow, process_id = start_training_again(site)

    flow.kill()
    flow.wait()

    wait_for(lambda: not Path(f"/proc/{process_id}").exists(), "the stage to end", 20)
    assert_whole_again(site, finished)


def test_killed_prefect_server(site: Site, finished: bytes) -> None:
    flow, _ = start_training_again(site)

    site.prefect.kill()
    time.sleep(1)
    site.prefect.start()
    with contextlib.suppress(subprocess.TimeoutExpired):
        flow.communicate(timeout=60)
    flow.terminate()
    flow.communicate(timeout=60)

    assert_whole_again(site, finished)


def test_killed_mlflow_server(site: Site, finished: bytes) -> None:
    flow, _ = start_training_again(site)

    site.mlflow.kill()
    output, _ = flow.communicate(timeout=_SECONDS)
    try:
        assert flow.returncode == 0, output
        assert site.metrics() == finished
        assert "the stage goes on without it" in output
    finally:
        site.mlflow.start()
    assert_whole_again(site, finished)


def test_killed_worker(site: Site, finished: bytes) -> None:
    """The worker dies; its flow goes on or ends with it, and the next run starts from what is there."""
    forget_training(site)
    deployment = site.api(lambda client: client.read_deployment_by_name("calico/tiny"))
    site.api(lambda client: client.create_flow_run_from_deployment(deployment.id))
    process_id = wait_for(stage_process, "the train stage")

    site.worker.kill()

    try:
        wait_for(lambda: not Path(f"/proc/{process_id}").exists(), "the stage to end", 60)
        assert_whole_again(site, finished)
    finally:
        site.worker.start()


def test_gpu_stage_waits_for_its_slots_and_holds_them(site: Site, finished: bytes) -> None:
    needs_path = site.repository / "flows/resources.yaml"
    needs = needs_path.read_text()
    site.api(lambda client: client.upsert_global_concurrency_limit_by_name("gpu", 2))

    def taken() -> Any:
        return site.api(lambda client: client.read_global_concurrency_limit_by_name("gpu")).active_slots

    forget_training(site)
    needs_path.write_text("tiny:\n  train: {gpus: 2}\n")
    site.api(lambda client: client.increment_concurrency_slots(["gpu"], slots=1, mode="concurrency"))
    try:
        flow = site.start_flow()
        wait_for(lambda: "data" in lock_text(site), "the stage before")
        time.sleep(5)
        assert stage_process() is None
        site.api(lambda client: client.release_concurrency_slots(["gpu"], slots=1, occupancy_seconds=1))
        wait_for(stage_process, "the train stage")
        assert taken() == 2
        output, _ = flow.communicate(timeout=_SECONDS)
    finally:
        needs_path.write_text(needs)

    assert flow.returncode == 0, output
    assert taken() == 0
    assert site.metrics() == finished


def lock_text(site: Site) -> str:
    path = site.repository / "dvc.lock"
    return path.read_text() if path.exists() else ""


def test_second_flow_in_a_workspace_is_told_who_works_there(site: Site, finished: bytes) -> None:
    first, _ = start_training_again(site)
    second = site.start_flow()

    output, _ = second.communicate(timeout=_SECONDS)
    assert second.returncode != 0
    assert f"(process {first.pid} on " in output
    assert "nothing was run" in output
    first_output, _ = first.communicate(timeout=_SECONDS)
    assert first.returncode == 0, first_output
    assert json.loads(site.metrics()) == json.loads(finished)
