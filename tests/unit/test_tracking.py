"""Stage runs against a real MLflow database, and without one."""

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from calico.errors import DataError
from calico.stage_end import exit_on_error
from calico.tracking import flatten, send_unsent, stage_run

mlflow = pytest.importorskip("mlflow", reason="the extra 'track' is not installed")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for the module: making its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.delenv("RANK", raising=False)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_run_records_everything_and_writes_stage_json(tmp_path: Path, database: str) -> None:
    picture = tmp_path / "overlay.png"
    picture.write_bytes(b"picture")

    with stage_run(
        "finetune/calico",
        "tiny",
        tmp_path / "out",
        params={"seed": 3, "losses": {"text": 1.0}},
        tags={"model": "calico"},
    ) as run:
        for step in range(1200):  # more than one batch
            run.log_metrics({"loss": 1.0 / (step + 1)}, step=step)
        run.log_table("scores", [{"task": "common_parts", "mIoU": 0.5}])
        run.log_figure(picture)

    facts = json.loads((tmp_path / "out" / "stage.json").read_text())
    assert facts["stage"] == "finetune/calico"
    assert facts["seconds"] > 0
    assert 0.01 < facts["peak_gb"] < 100

    client = mlflow.MlflowClient(database)
    recorded = client.get_run(facts["mlflow_run_id"])
    assert recorded.info.run_name == "finetune/calico"
    assert recorded.info.status == "FINISHED"
    assert client.get_experiment(recorded.info.experiment_id).name == "calico-tiny"
    assert recorded.data.params == {"seed": "3", "losses.text": "1.0"}
    assert (
        recorded.data.tags.items()
        >= {"stage": "finetune/calico", "profile": "tiny", "model": "calico"}.items()
    )
    assert recorded.data.metrics["seconds"] == facts["seconds"]
    assert [point.step for point in client.get_metric_history(recorded.info.run_id, "loss")] == list(
        range(1200)
    )
    assert [file.path for file in client.list_artifacts(recorded.info.run_id, "figures")] == [
        "figures/overlay.png"
    ]
    assert [file.path for file in client.list_artifacts(recorded.info.run_id, "tables")] == [
        "tables/scores.json"
    ]


def test_failed_stage_leaves_a_failed_run_and_no_stage_json(tmp_path: Path, database: str) -> None:
    with (
        pytest.raises(DataError, match="damaged"),
        stage_run("unify", "tiny", tmp_path / "out", params={}, tags={"reason": "test"}),
    ):
        raise DataError("images.parquet is damaged.")

    client = mlflow.MlflowClient(database)
    experiment = client.get_experiment_by_name("calico-tiny")
    (recorded,) = client.search_runs([experiment.experiment_id], "tags.reason = 'test'")
    assert recorded.info.status == "FAILED"
    assert not (tmp_path / "out" / "stage.json").exists()


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)])
def test_stopped_stage_leaves_a_killed_run(tmp_path: Path, database: str, stop: BaseException) -> None:
    tag = type(stop).__name__
    with (
        pytest.raises(type(stop)),
        stage_run("finetune", "tiny", tmp_path / "out", params={}, tags={"reason": tag}),
    ):
        raise stop

    client = mlflow.MlflowClient(database)
    experiment = client.get_experiment_by_name("calico-tiny")
    (recorded,) = client.search_runs([experiment.experiment_id], f"tags.reason = '{tag}'")
    assert recorded.info.status == "KILLED"


def test_run_names_commit_and_dvc_stage(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "unify")
    monkeypatch.setattr(
        "calico.tracking._git", lambda *arguments: "abc123" if "HEAD" in arguments else " M params.yaml"
    )

    with stage_run("unify", "tiny", tmp_path / "out", params={}) as run:
        run_id = run.mlflow_run_id

    tags = mlflow.MlflowClient(database).get_run(run_id).data.tags
    assert tags["git.commit"] == tags["mlflow.source.git.commit"] == "abc123"
    assert tags["git.dirty"] == "true"
    assert tags["dvc.stage"] == "unify"


def _record_a_little(output_path: Path) -> dict[str, object]:
    with stage_run("unify", "tiny", output_path, params={"seed": 1}) as run:
        for step in range(100):
            run.log_metrics({"loss": 1.0}, step=step)
        run.log_table("rows", [])
        run.log_figure(output_path)
    return dict(json.loads((output_path / "stage.json").read_text()))


def test_refused_connection_warns_once_and_the_stage_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    caplog.set_level(logging.WARNING, "calico.tracking")

    facts = _record_a_little(tmp_path / "out")

    assert set(facts) == {"stage", "seconds", "peak_gb"}
    assert caplog.text.count("the stage goes on without it") == 1


def test_silent_server_holds_a_stage_up_for_seconds_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent_port: int
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")

    facts = _record_a_little(tmp_path / "out")

    # Measured 3.0 s: two tries of 1 s each and the pause between them; MLflow's own settings take minutes.
    assert float(str(facts["seconds"])) < 20


def test_damaged_database_does_not_stop_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "mlflow.db"
    damaged.write_bytes(b"no database" * 1000)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{damaged}")

    assert set(_record_a_little(tmp_path / "out")) == {"stage", "seconds", "peak_gb"}


def test_stage_runs_without_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    caplog.set_level(logging.WARNING, "calico.tracking")

    facts = _record_a_little(tmp_path / "out")

    assert set(facts) == {"stage", "seconds", "peak_gb"}
    assert caplog.text.count("the stage goes on without it") == 1


def test_only_rank_zero_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")

    with stage_run("align", "tiny", tmp_path / "out", params={}) as run:
        assert run.mlflow_run_id is None

    assert not (tmp_path / "out").exists()


def journals(folder: Path) -> list[Path]:
    return sorted((folder / "unsent").glob("*.jsonl"))


def test_nothing_is_left_where_mlflow_has_everything(tmp_path: Path) -> None:
    with stage_run("pair", "tiny", tmp_path / "tiny" / "pair", params={}) as run:
        run.log_metrics({"pairs": 3})
        (running,) = journals(tmp_path / "tiny")
        assert send_unsent(tmp_path / "tiny") == []  # it still runs
        assert running.is_file()
    assert journals(tmp_path / "tiny") == []


def test_what_a_dead_server_missed_is_sent_later(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    picture = tmp_path / "overlay.png"
    picture.write_bytes(b"picture")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with stage_run("finetune/calico", "tiny", tmp_path / "tiny" / "a" / "b", params={"seed": 3}) as run:
        for step in range(30):
            run.log_metrics({"loss": 1.0 / (step + 1)}, step=step)
        run.log_table("scores", [{"task": "common_parts", "mIoU": 0.5}])
        run.log_figure(picture)
    assert "`calico track` sends the rest later" in caplog.text
    assert len(journals(tmp_path / "tiny")) == 1
    with pytest.raises(DataError, match=r"is not usable .* stays. Try again later"):
        send_unsent(tmp_path / "tiny")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    assert send_unsent(tmp_path / "tiny") == ["finetune/calico"]

    assert journals(tmp_path / "tiny") == []
    client = mlflow.MlflowClient(database)
    (experiment,) = client.search_experiments(filter_string="name = 'calico-tiny'")
    newest = client.search_runs([experiment.experiment_id], order_by=["start_time DESC"], max_results=1)[0]
    assert (newest.info.run_name, newest.info.status) == ("finetune/calico", "FINISHED")
    assert newest.data.params == {"seed": "3"}
    history = client.get_metric_history(newest.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(step, 1 / (step + 1)) for step in range(30)]
    assert [file.path for file in client.list_artifacts(newest.info.run_id, "tables")] == [
        "tables/scores.json"
    ]


def test_a_server_that_dies_in_the_middle_gets_each_point_once(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stage_run("align", "tiny", tmp_path / "tiny" / "align", params={}) as run:
        for step in range(1005):  # the first thousand are sent at once
            run.log_metrics({"loss": float(step)}, step=step)
        run_id = run.mlflow_run_id

        def fail(*arguments: object, **others: object) -> None:
            raise ConnectionError("gone")

        monkeypatch.setattr("mlflow.MlflowClient.log_batch", fail)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    client = mlflow.MlflowClient(database)
    assert len(client.get_metric_history(run_id, "loss")) == 1000

    assert send_unsent(tmp_path / "tiny") == ["align"]

    assert [point.step for point in client.get_metric_history(run_id, "loss")] == list(range(1005))
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_damaged_journal_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "unsent").mkdir()
    (tmp_path / "unsent" / "pair-1.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"pair-1.jsonl: damaged .* Delete it"):
        send_unsent(tmp_path)


def test_flatten_gives_dotted_names_and_text() -> None:
    nested = {"a": {"b": {"c": 1.5}, "d": [1, 2]}, "e": None, "f": "text", "g": True}

    assert flatten(nested) == {"a.b.c": "1.5", "a.d": "[1, 2]", "e": "null", "f": "text", "g": "true"}


@exit_on_error
def damaged_stage(profile: str) -> None:
    raise DataError(f"artifacts/{profile}/x: missing. Run its stage.")


def test_error_becomes_one_line_and_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        damaged_stage("tiny")

    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: artifacts/tiny/x: missing. Run its stage.\n"


def test_missing_argument_prints_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        damaged_stage()

    assert caught.value.code == 2
    assert capsys.readouterr().err == "usage: python -m stages.test_tracking PROFILE\n"


def test_other_errors_keep_their_traceback() -> None:
    @exit_on_error
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()


@exit_on_error
def stage_that(what: str) -> None:
    if what == "meets a wrong value":
        raise DataError("images.parquet is damaged.")
    if what == "loses its peer":
        raise ConnectionResetError("by peer")
    if what == "is told to end":
        raise SystemExit(143)
    if what == "has a fault":
        raise ZeroDivisionError("division by zero")
    if what == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("what", "kind", "message", "is_retryable"),
    [
        ("meets a wrong value", "DataError", "images.parquet is damaged.", False),
        ("loses its peer", "ConnectionResetError", "by peer", True),
        ("is told to end", "Interrupted", "143", True),
        ("has a fault", "ZeroDivisionError", "division by zero", False),
    ],
)
def test_failed_stage_records_whether_to_try_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    kind: str,
    message: str,
    is_retryable: bool,
) -> None:
    record_path = tmp_path / "failure.json"
    monkeypatch.setenv("CALICO_FAILURE_RECORD", str(record_path))

    with pytest.raises((SystemExit, Exception)):
        stage_that(what)

    record = json.loads(record_path.read_text())
    assert record == {"kind": kind, "message": message, "retryable": is_retryable}


def test_killed_stage_is_told_from_one_that_never_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_path = tmp_path / "failure.json"
    monkeypatch.setenv("CALICO_FAILURE_RECORD", str(record_path))
    process_id = os.fork()
    if process_id == 0:
        stage_that("is killed")
    os.waitpid(process_id, 0)

    assert json.loads(record_path.read_text())["kind"] == "Killed"
    assert json.loads(record_path.read_text())["retryable"] is True
    stage_that("succeeds")
    assert not record_path.exists()


def test_interrupted_rank_does_not_hide_the_failure_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_path = tmp_path / "failure.json"
    monkeypatch.setenv("CALICO_FAILURE_RECORD", str(record_path))
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit):
        stage_that("meets a wrong value")
    with pytest.raises(SystemExit):
        stage_that("is told to end")

    assert json.loads(record_path.read_text())["kind"] == "DataError"
