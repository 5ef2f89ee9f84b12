"""Pipelines' runs, links to the runs that made a stage, and the rule by which the champion changes."""

import json
from pathlib import Path
from typing import Any

import pytest

from calico.comparison import CHAMPION, Score, beats, close_run, main, open_run, register
from calico.core.files import write_json
from calico.errors import DataError
from calico.tracking import stage_run

mlflow = pytest.importorskip("mlflow", reason="the extra 'track' is not installed")

TASKS = ("common_objects", "common_parts", "unique_parts", "mean")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)


def write_artifacts(
    profile: str, value: float, half_width: float = 0.02, test_pairs: bytes = b"pairs"
) -> None:
    folder = Path("artifacts", profile)
    for path, content in {
        "finetune/calico/trained.safetensors": f"weights {value}".encode(),
        "pair/test.parquet": test_pairs,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    interval = [value - half_width, value + half_width]
    metrics: dict[str, Any] = {
        "models": {"calico": {task: {"mIoU": value} for task in TASKS}},
        "intervals": {"calico": {task: {"mIoU": interval} for task in TASKS}},
    }
    write_json(folder / "evaluate" / "metrics.json", metrics)


@pytest.mark.parametrize(
    ("value", "low", "pairs", "expected", "why"),
    [
        (0.56, 0.53, "a", True, "better by more than chance"),
        (0.56, 0.50, "a", False, "not better by more than chance"),
        (0.56, 0.49, "a", False, "not better by more than chance"),
        (0.40, 0.38, "a", False, "not better by more than chance"),
        (0.90, 0.89, "b", False, "other test pairs"),
    ],
)
def test_champion_is_beaten_only_beyond_the_interval(
    value: float, low: float, pairs: str, expected: bool, why: str
) -> None:
    champion = Score(0.50, 0.48, 0.52, "a")

    decision, reason = beats(Score(value, low, 2 * value - low, pairs), champion)

    assert decision is expected
    assert why in reason


def test_first_model_is_champion() -> None:
    assert beats(Score(0.1, 0.0, 0.2, "a"), None) == (True, "There was no champion.")


def test_register_moves_the_alias_by_the_rule(database: str) -> None:
    client = mlflow.MlflowClient(database)

    def champion() -> int:
        return int(client.get_model_version_by_alias("calico-tiny", CHAMPION).version)

    write_artifacts("tiny", 0.30)
    assert register("tiny")["version"] == champion() == 1
    write_artifacts("tiny", 0.31)  # [0.29, 0.33] holds 0.30
    assert register("tiny")["champion"] is False
    assert champion() == 1
    write_artifacts("tiny", 0.33)
    answer = register("tiny")

    assert (answer["champion"], champion()) == (True, 3)
    version = client.get_model_version("calico-tiny", "3")
    assert version.tags["model"] == "calico"
    assert float(version.tags["low"]) == pytest.approx(0.31)
    files = [file.path for file in client.list_artifacts(version.run_id, "model")]
    assert files == ["model/trained.safetensors"]


def test_newest_model_of_the_paper_s_profile_is_its_reproduction(database: str) -> None:
    write_artifacts("paper", 0.60)
    register("paper")
    write_artifacts("paper", 0.55)
    register("paper")

    client = mlflow.MlflowClient(database)
    assert int(client.get_model_version_by_alias("calico-paper", "paper-repro").version) == 2
    assert int(client.get_model_version_by_alias("calico-paper", CHAMPION).version) == 1


def test_model_that_was_not_evaluated_is_refused() -> None:
    write_artifacts("tiny", 0.30)

    with pytest.raises(DataError, match="no model 'lisa'; it has calico"):
        register("tiny", "lisa")


def test_stage_is_a_child_and_an_idle_stage_names_the_run_that_made_it(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_artifacts("tiny", 0.30)
    Path("params.yaml").write_text("tiny: {seed: 3, finetune: {num_steps: 40}}\n")
    first = open_run("tiny", "first", "flow-1")["run_id"]
    monkeypatch.setenv("CALICO_PARENT_RUN_ID", first)
    with stage_run("unify", "tiny", Path("artifacts/tiny/unify"), params={}) as run:
        made_by = run.mlflow_run_id
    close_run("tiny", first, "FINISHED", [])
    second = open_run("tiny", "second", "flow-2")["run_id"]
    close_run("tiny", second, "FINISHED", ["unify"])

    client = mlflow.MlflowClient(database)
    experiment = client.get_experiment_by_name("calico-tiny").experiment_id

    def children(parent: str) -> list[Any]:
        return list(client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'"))

    assert [child.info.run_id for child in children(first)] == [made_by]
    (linked,) = children(second)
    assert linked.data.tags["calico.restored_from"] == made_by
    parent = client.get_run(second)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["calico/mean/mIoU"] == pytest.approx(0.30)
    assert parent.data.tags["prefect.flow_run_id"] == "flow-2"
    assert parent.data.params == {"seed": "3", "finetune.num_steps": "40"}


def test_pipeline_without_values_leaves_no_run(database: str) -> None:
    Path("params.yaml").write_text("tiny: {seed: 3}\n")

    with pytest.raises(DataError, match=r"params\.yaml: no values of profile 'paper' \('paper'\)"):
        open_run("paper", "first", "")

    experiment = mlflow.MlflowClient(database).get_experiment_by_name("calico-paper").experiment_id
    assert mlflow.MlflowClient(database).search_runs([experiment], "tags.stage = 'pipeline'") == []


def test_system_metrics_are_recorded_where_asked_for(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with stage_run("align", "tiny", Path("artifacts/tiny/align"), params={}) as run:
        run_id = run.mlflow_run_id
        time.sleep(1.5)

    metrics = mlflow.MlflowClient(database).get_run(run_id).data.metrics
    assert "system/cpu_utilization_percentage" in metrics


def test_command_prints_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    write_artifacts("tiny", 0.30)

    assert main("register", "tiny", "calico") == 0
    assert json.loads(capsys.readouterr().out)["name"] == "calico-tiny"
    assert main("register", "tiny", "lisa") == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert main("promote") == 2
    assert "open|close|register|pages" in capsys.readouterr().err


def test_dead_server_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    assert main("open", "tiny", "name", "") == 2
    assert "MLflow at http://127.0.0.1:9 is not usable" in capsys.readouterr().err
