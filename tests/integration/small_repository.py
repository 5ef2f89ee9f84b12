"""A git and DVC repository of three small stages that record themselves as ours do.

`data` draws numbers, `train` takes some seconds and a file after each, `evaluate` writes metrics.json.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TRAIN_SECONDS = 4.0

DVC_YAML = """
stages:
  data:
    cmd: python -m stages.work data
    deps: [stages/work.py]
    outs: [artifacts/tiny/data]
  train:
    cmd: python -m stages.work train
    deps: [stages/work.py, artifacts/tiny/data/numbers.json]
    params: [tiny.rate]
    outs: [artifacts/tiny/train]
  evaluate:
    cmd: python -m stages.work evaluate
    deps: [stages/work.py, artifacts/tiny/train/weights.json]
    outs: [artifacts/tiny/evaluate/stage.json]
    metrics: [artifacts/tiny/evaluate/metrics.json]
"""

WORK = """
import sys, time
from pathlib import Path
from calico.core.files import read_json, write_json
from calico.stage_end import exit_on_error
from calico.tracking import stage_run

ARTIFACTS = Path("artifacts/tiny")
METRICS = ("AP50", "mIoU", "Recall", "SS", "S-IoU")


@exit_on_error
def main(stage: str) -> None:
    output = ARTIFACTS / stage
    with stage_run(stage, "tiny", output, params={}) as run:
        if stage == "data":
            write_json(output / "numbers.json", list(range(20)))
        elif stage == "train":
            numbers = read_json(ARTIFACTS / "data/numbers.json")
            for number in numbers:
                time.sleep(SECONDS / len(numbers))
                write_json(output / f"step-{number}.json", number)
                run.log_metrics({"loss": 1 / (1 + number)}, step=number)
            write_json(output / "weights.json", sum(numbers))
        else:
            value = read_json(ARTIFACTS / "train/weights.json") / 1000
            scores = {name: value for name in METRICS}
            tasks = ("common_objects", "common_parts", "unique_parts", "mean")
            write_json(output / "metrics.json", {"models": {"calico": {task: scores for task in tasks}}})


main(*sys.argv[1:])
"""


def make_repository(folder: Path, seconds: float = TRAIN_SECONDS) -> Path:
    """Write the repository and commit it."""
    folder.mkdir(exist_ok=True)
    for name in ("calico", "flows"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "stages").mkdir()
    (folder / "stages" / "__init__.py").touch()
    (folder / "stages" / "work.py").write_text(WORK.replace("SECONDS", str(seconds)))
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / "params.yaml").write_text("tiny:\n  rate: 0.5\n")
    (folder / ".gitignore").write_text("artifacts/\nscratch/\nmlflow.db\nmlartifacts/\n__pycache__/\n")
    (folder / ".dvcignore").write_text("__pycache__/\n/scratch/\n")
    git(folder, "init", "--quiet")
    dvc(folder, "init", "--quiet")
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "-m", "State")


def git(folder: Path, *arguments: str) -> str:
    return _call(folder, "git", *arguments)


def dvc(folder: Path, *arguments: str) -> str:
    return _call(folder, sys.executable, "-m", "dvc", *arguments)


def processes_in(folder: Path) -> list[str]:
    """Name the living processes whose working directory is in `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            place, words = Path(os.readlink(path / "cwd")), (path / "cmdline").read_bytes()
        except OSError:
            continue
        if place.is_relative_to(folder) and words:
            found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


def _call(folder: Path, *command: str) -> str:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, f"{command}\n{answer.stdout[-3000:]}\n{answer.stderr[-3000:]}"
    return answer.stdout
