"""Variants run in git worktrees side by side, and the workspace then finds their results in the run-cache."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("dvc", reason="the extra 'pipeline' is not installed")
pytest.importorskip("prefect", reason="the extra 'orchestrate' is not installed")

from prefect.testing.utilities import prefect_test_harness

from flows.variants import baselines
from flows.worktrees import WorktreeError, change_params
from tests.integration.small_repository import commit, git, make_repository

pytestmark = pytest.mark.integration

PREDICT = """
  predict:
    foreach: [lisa, glamm]
    do:
      cmd: >-
        mkdir -p artifacts/tiny/predict && echo ${item} from $PWD >> $LOG &&
        cp artifacts/tiny/data/numbers.json artifacts/tiny/predict/${item}.json
      deps: [artifacts/tiny/data/numbers.json]
      outs: ["artifacts/tiny/predict/${item}.json"]
"""


@pytest.fixture
def repository(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    folder = make_repository(tmp_path / "repository", seconds=0.2)
    with (folder / "dvc.yaml").open("a") as file:
        file.write(PREDICT)
    commit(folder)
    monkeypatch.setenv("LOG", str(tmp_path / "ran.log"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with prefect_test_harness(server_startup_timeout=120):
        yield folder


def test_baselines_run_in_worktrees_and_are_restored_in_the_workspace(
    repository: Path, tmp_path: Path
) -> None:
    ran_last = baselines(root=repository)

    places = dict(line.split(" from ") for line in (tmp_path / "ran.log").read_text().splitlines())
    assert places == {
        model: str(repository / "scratch/worktrees" / f"tiny-{model}") for model in ("lisa", "glamm")
    }
    assert (repository / "artifacts/tiny/predict/lisa.json").is_file()
    assert ran_last == ["train", "evaluate"]  # no variant needed these
    assert list((repository / "scratch/worktrees").iterdir()) == []
    assert len(git(repository, "worktree", "list").splitlines()) == 1

    (repository / "params.yaml").write_text("tiny:\n  rate: 0.25\n")
    with pytest.raises(WorktreeError, match=r"params\.yaml: not committed"):
        baselines(root=repository)


def test_unknown_value_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("tiny:\n  rate: 0.5\n")

    with pytest.raises(WorktreeError, match=r"no value 'tiny\.rat' to change"):
        change_params(path, {"tiny.rat": 1})

    change_params(path, {"tiny.rate": 0.75})
    assert path.read_text() == "tiny:\n  rate: 0.75\n"
