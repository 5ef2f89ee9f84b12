"""Stages as jobs of a real Slurm on this machine: seen, cancelled and put back into the queue."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("dvc", reason="the extra 'pipeline' is not installed")
pytest.importorskip("prefect", reason="the extra 'orchestrate' is not installed")

from flows.processes import CommandError, run_command
from flows.resources import Resources
from flows.slurm import slurm_command
from flows.stage import StageError, StageOutcome, StageRequest, run_stage
from flows.workspace import only_writer
from tests.integration.slurm_site import missing, slurm
from tests.integration.small_repository import dvc, make_repository, processes_in

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(missing()), reason=f"Slurm: {missing()}")]


@pytest.fixture(scope="module")
def slurm_conf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with slurm(tmp_path_factory.mktemp("slurm")) as path:
        yield path


@pytest.fixture
def environment(slurm_conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", str(slurm_conf))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")


@pytest.fixture
def repository(environment: None, tmp_path: Path) -> Path:
    folder = make_repository(tmp_path / "repository", seconds=3.0)
    dvc(folder, "repro", "data")
    return folder


class Job:
    """The train stage as a job, followed in a thread."""

    def __init__(self, folder: Path) -> None:
        self.lines: list[str] = []
        self.outcome: StageOutcome | BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(folder,), daemon=True)
        self._thread.start()

    def _run(self, folder: Path) -> None:
        try:
            with only_writer(folder, "test") as lock:
                request = StageRequest(folder, "train", Resources(minutes=5), lock, executor="slurm")
                self.outcome = run_stage(request, self.lines.append)
        except StageError as error:
            self.outcome = error

    def wait_for(self, text: str, count: int = 1, seconds: float = 60) -> str:
        """Wait for lines with `text` and return the last of them."""
        deadline = time.monotonic() + seconds
        while len(found := [line for line in list(self.lines) if re.search(text, line)]) < count:
            assert time.monotonic() < deadline, (text, self.lines)
            time.sleep(0.1)
        return found[-1]

    def end(self) -> StageOutcome | BaseException | None:
        self._thread.join(120)
        assert not self._thread.is_alive()
        return self.outcome


def wait_until(is_true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def job_number(line: str) -> str:
    return str(re.search(r"Slurm job (\d+)", line)[1])


def test_stage_runs_as_a_job_and_its_output_is_seen(repository: Path) -> None:
    job = Job(repository)

    outcome = job.end()

    assert isinstance(outcome, StageOutcome), (outcome, job.lines)
    assert outcome.result == "ran"
    job.wait_for("Slurm job .*RUNNING")
    job.wait_for("Running stage 'train'")
    assert (repository / "artifacts/tiny/train/weights.json").read_text() == "190\n"
    assert "train" in (repository / "dvc.lock").read_text()


def test_cancelled_job_is_a_failure_that_may_be_tried_again(repository: Path) -> None:
    job = Job(repository)
    number = job_number(job.wait_for("Slurm job .*RUNNING"))
    wait_until((repository / "artifacts/tiny/train/step-2.json").exists)

    subprocess.run(["scancel", number], check=True)

    outcome = job.end()
    assert isinstance(outcome, StageError), (outcome, job.lines)
    assert outcome.is_retryable
    job.wait_for("ended as CANCELLED")
    wait_until(lambda: not [words for words in processes_in(repository) if "stages.work" in words])
    assert isinstance(Job(repository).end(), StageOutcome)


def test_requeued_job_is_waited_for_until_its_second_start_ends(repository: Path) -> None:
    job = Job(repository)
    number = job_number(job.wait_for("Slurm job .*RUNNING"))
    wait_until((repository / "artifacts/tiny/train/step-2.json").exists)

    subprocess.run(["scontrol", "requeue", number], check=True)

    outcome = job.end()
    assert isinstance(outcome, StageOutcome), (outcome, job.lines)
    assert outcome.result == "ran"
    job.wait_for(r"PENDING \(BeginTime\), restart 1")
    assert number == job_number(job.wait_for("Slurm job .*RUNNING on .*, restart 1"))
    assert (repository / "artifacts/tiny/train/weights.json").read_text() == "190\n"
    assert processes_in(repository) == []


def test_ended_flow_cancels_its_job(environment: None, tmp_path: Path) -> None:
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    lines: list[str] = []

    def stop_once_it_runs(line: str) -> None:
        lines.append(line)
        if "RUNNING" in line:
            raise InterruptedError

    command = slurm_command(["sleep", "60"], "train", Resources(minutes=5))
    with pytest.raises(InterruptedError):
        run_command(command, tmp_path, stop_once_it_runs, environment=dict(os.environ))

    facts = subprocess.run(
        ["scontrol", "show", "job", job_number(lines[0])], capture_output=True, text=True, check=True
    ).stdout
    assert "JobState=CANCELLED" in facts


def test_missing_slurm_is_one_sentence(tmp_path: Path) -> None:
    lines: list[str] = []

    with pytest.raises(CommandError):
        run_command(
            slurm_command([sys.executable, "-V"], "train", Resources()),
            tmp_path,
            lines.append,
            environment={"PATH": "/nowhere"},
        )

    assert lines == ["error: 'sbatch' is not installed; run with executor 'local'."]
