"""The whole pipeline through DVC, at sizes that take seconds a stage: it runs, repeats itself and reports.

Nothing is learnt at these sizes; the tiny profile's own figures are what `make run` is for.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("dvc", reason="the extra 'pipeline' is not installed")

ROOT = Path(__file__).parents[2]
MODELS = ("calico", "lisa", "glamm")
TASKS = ("common_objects", "common_parts", "unique_parts", "mean")
NUM_IMAGES = {"train": 40, "val": 2, "test": 16}
CHANGES: dict[str, Any] = {
    "synthesize.num_images": dict.fromkeys(("partimagenet", "paco_lvis", "ade20k_part_234"), NUM_IMAGES),
    "synthesize.num_grand_images": 24,
    "synthesize.num_workers": 1,
    "pair.num_pairs": {"train": dict.fromkeys(TASKS[:3], 12), "val": 2, "test": 4},
    "align.num_steps": 3,
    "align.warmup_steps": 1,
    "align.batch_size": 2,
    "finetune.num_steps": 3,
    "finetune.warmup_steps": 1,
    "finetune.batch_size": 2,
    "predict.max_new_tokens": 24,
    "evaluate.num_bootstrap": 20,
    "profile.num_repeats": 1,
    "profile.num_latency_pairs": 1,
    "report.num_gallery_pairs": 1,
}

pytestmark = pytest.mark.integration


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run dvc as a user does after activating the environment, with its own home."""
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={
            **{name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DS_ACCELERATOR": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
        },
    )


def set_param(folder: Path, dotted: str, value: Any) -> None:
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    *parents, last = dotted.split(".")
    section = params
    for parent in parents:
        section = section[parent]
    assert last in section
    section[last] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's working files with a small tiny profile."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("calico", "stages", "standins", "paper"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    for dotted, value in CHANGES.items():
        set_param(folder, f"tiny.{dotted}", value)
    assert dvc(folder, "init", "--no-scm").returncode == 0
    return folder


@pytest.fixture(scope="module")
def finished(clone: Path) -> Path:
    """The clone after one run of everything."""
    result = dvc(clone, "repro")
    assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return clone


def stages_to_run(folder: Path) -> list[str]:
    """Ask DVC which stages it would run now."""
    lines = dvc(folder, "repro", "--dry").stdout.splitlines()
    return [line.split("'")[1] for line in lines if line.startswith("Running stage")]


def test_run_scores_every_model_and_floor(finished: Path) -> None:
    metrics = json.loads((finished / "artifacts/tiny/evaluate/metrics.json").read_text())

    assert set(metrics["models"]) == set(MODELS)
    assert set(metrics["floors"]) == {"majority", "whole_object", "usual_parts", "shuffled_images"}
    for scores in (*metrics["models"].values(), *metrics["floors"].values()):
        for task in TASKS:
            assert all(0.0 <= scores[task][name] <= 1.0 for name in ("AP50", "mIoU", "Recall", "SS", "S-IoU"))


def test_run_writes_a_report_with_pictures(finished: Path) -> None:
    report = finished / "artifacts/tiny/report"

    assert "<html" in (report / "report.html").read_text()
    assert (report / "report.md").stat().st_size > 1000
    assert list((report / "figures").iterdir())


def test_every_stage_says_what_it_took(finished: Path) -> None:
    found = {
        json.loads(path.read_text())["stage"] for path in (finished / "artifacts/tiny").glob("**/stage.json")
    }
    planned = set(yaml.safe_load((finished / "dvc.lock").read_text())["stages"])

    assert found == {name.replace("@", "/") for name in planned}


def test_every_stage_is_a_finished_mlflow_run(finished: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra 'track' is not installed")
    client = mlflow.MlflowClient(f"sqlite:///{finished}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("calico-tiny").experiment_id])
    planned = set(yaml.safe_load((finished / "dvc.lock").read_text())["stages"])

    assert {run.data.tags["dvc.stage"] for run in runs} == planned
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_figures_are_one_line_of_json(finished: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "calico", "figures"], cwd=finished, capture_output=True, text=True, check=True
    )

    figures = json.loads(result.stdout.splitlines()[-1])
    assert set(figures) == {"models", "floors", "test", "stages"}
    assert set(figures["stages"]["finetune/calico"]) == {"seconds", "peak_gb"}


def test_second_run_does_nothing(finished: Path) -> None:
    result = dvc(finished, "repro")

    assert "Data and pipelines are up to date." in result.stdout
    assert stages_to_run(finished) == []


def test_changed_value_runs_what_reads_it_and_nothing_else(finished: Path) -> None:
    set_param(finished, "tiny.report.seed", 62)
    assert stages_to_run(finished) == ["report"]
    set_param(finished, "tiny.report.seed", 61)

    set_param(finished, "paper.finetune.learning_rate", 5.0e-4)
    assert stages_to_run(finished) == []


def test_changed_reader_does_not_retrain(finished: Path) -> None:
    """A comment in a reader runs the reader again; its tables are the same, so nothing after it runs."""
    with (finished / "calico/data/annotations/coco.py").open("a") as file:
        file.write("# A comment.\n")

    result = dvc(finished, "repro", "finetune@calico")

    assert "Running stage 'unify'" in result.stdout
    assert result.stdout.count("Running stage") == 1


def test_same_seed_gives_the_same_bytes(finished: Path) -> None:
    metrics_path = finished / "artifacts/tiny/evaluate/metrics.json"
    before = metrics_path.read_bytes()

    for stage in ("finetune@calico", "predict@calico", "evaluate"):
        result = dvc(finished, "repro", "--force", "--single-item", stage)
        assert result.returncode == 0, result.stderr[-3000:]

    assert metrics_path.read_bytes() == before


def test_paper_profile_says_what_is_missing(clone: Path) -> None:
    result = dvc(clone, "repro", "paper/dvc.yaml")

    assert result.returncode != 0
    assert "error: artifacts/paper/sources: 5 source(s) are not complete" in result.stderr
    for source in ("paco_lvis", "partimagenet", "ade20k_part_234", "grand", "sa_1b"):
        assert f"\n  {source}: " in result.stderr
    assert "Traceback" not in result.stderr
    assert not [path for path in (clone / "downloads").rglob("*") if path.is_file()]
    assert not (clone / "artifacts" / "paper").exists()
