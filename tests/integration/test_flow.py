"""The flow against a real DVC repository of two stages, under Prefect's own test server."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("dvc", reason="the extra 'pipeline' is not installed")
pytest.importorskip("prefect", reason="the extra 'orchestrate' is not installed")

from prefect.testing.utilities import prefect_test_harness

from flows.graph import stage_order
from flows.pipeline import pipeline
from flows.processes import CommandError, run_command
from flows.stage import StageError

pytestmark = pytest.mark.integration

DVC_YAML = """
stages:
  second:
    cmd: cat first.txt > second.txt && echo second >> ran.log && echo hello from second
    deps: [first.txt]
    outs: [second.txt]
  first:
    cmd: cat source.txt > first.txt && echo first >> ran.log
    deps: [source.txt]
    outs: [first.txt]
"""


@pytest.fixture(scope="module")
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"], cwd=tmp_path, check=True)
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "source.txt").write_text("one\n")
    return tmp_path


def is_alive(process_id: int) -> bool:
    """Tell whether a process is still there; a killed one has a moment to go."""
    for _ in range(50):
        try:
            state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        if state == "Z":
            return False
        time.sleep(0.1)
    return True


def test_stages_run_in_the_graph_s_order_and_only_when_needed(repository: Path, prefect_server: None) -> None:
    log = repository / "ran.log"

    assert pipeline(root=repository) == ["first", "second"]
    assert log.read_text().split() == ["first", "second"]

    pipeline(root=repository)
    assert log.read_text().split() == ["first", "second"]

    (repository / "source.txt").write_text("two\n")
    assert pipeline(targets=["first"], root=repository) == ["first"]
    assert log.read_text().split() == ["first", "second", "first"]
    assert (repository / "second.txt").read_text() == "one\n"


def test_failing_stage_stops_the_flow_with_its_output(repository: Path, prefect_server: None) -> None:
    failing = DVC_YAML.replace("cat source.txt > first.txt", "echo no such image && false")
    (repository / "dvc.yaml").write_text(failing)

    with pytest.raises(StageError, match="no such image"):
        pipeline(root=repository)

    assert not (repository / "second.txt").exists()


def test_repository_s_own_graph_starts_with_acquire_and_ends_with_report() -> None:
    order = stage_order(Path(__file__).parents[2], "tiny")

    assert order[-1] == "report"
    assert (
        order.index("acquire") < order.index("pair") < order.index("finetune@lisa") < order.index("evaluate")
    )
    assert "paper/dvc.yaml:report" in stage_order(Path(__file__).parents[2], "paper")


def test_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="No profile 'papr'; choose one of tiny, paper"):
        stage_order(Path(), "papr")


@pytest.mark.parametrize("ending", ["exit 3", "kill -9 $$"])
def test_failed_command_leaves_no_process(tmp_path: Path, ending: str) -> None:
    lines: list[str] = []

    with pytest.raises(CommandError, match="ended with exit code"):
        run_command(["sh", "-c", f"sleep 60 >/dev/null 2>&1 & echo $!; {ending}"], tmp_path, lines.append)

    assert not is_alive(int(lines[0]))


def test_interrupted_command_leaves_no_process(tmp_path: Path) -> None:
    started: list[int] = []

    def interrupt(line: str) -> None:
        started.append(int(line))
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_command(["sh", "-c", "sleep 60 & echo $!; wait"], tmp_path, interrupt)

    assert time.monotonic() - begin < 8
    assert not is_alive(started[0])


def test_group_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.processes._GRACE_SECONDS", 0.3)
    started: list[int] = []

    def fail(line: str) -> None:
        started.append(int(line))
        raise InterruptedError

    with pytest.raises(InterruptedError):
        run_command(["sh", "-c", "trap '' TERM; sleep 60 & echo $!; wait"], tmp_path, fail)

    assert not is_alive(started[0])
