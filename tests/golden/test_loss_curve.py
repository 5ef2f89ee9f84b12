"""The losses of twenty steps, through the command that a user types.

They change only with `python -m tests.golden.test_loss_curve "why they change"`, which writes the sentence
beside the numbers.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from tests.small_artifacts import small_config, write_checkpoints, write_tables

GOLDEN_PATH = Path(__file__).with_name("loss_curve.json")
REPOSITORY = Path(__file__).parents[2]
LOSSES = ("loss", "text", "mask", "dice")
COMMANDS = {"align": ["stages.align", "small"], "finetune/calico": ["stages.finetune", "small", "calico"]}


def run_stages(folder: Path) -> dict[str, list[dict[str, float]]]:
    """Run the commands on small artefacts in `folder`; return the losses of every step."""
    config = small_config()
    profile = config.model_dump()
    for name in ("align", "finetune"):
        profile[name]["num_steps"] = 20
    (folder / "params.yaml").write_text(yaml.safe_dump({"small": profile}))
    artifacts_path = folder / "artifacts" / "small"
    write_tables(artifacts_path)
    write_checkpoints(artifacts_path, config)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    curves = {}
    for stage, command in COMMANDS.items():
        subprocess.run(
            [sys.executable, "-m", *command], cwd=folder, env=environment, check=True, capture_output=True
        )
        lines = (artifacts_path / stage / "log.jsonl").read_text().splitlines()
        curves[stage] = [{name: json.loads(line)[name] for name in LOSSES} for line in lines]
    return curves


def test_losses_of_twenty_steps_stay_the_same(tmp_path):
    golden = json.loads(GOLDEN_PATH.read_text())["curves"]
    curves = run_stages(tmp_path)
    assert curves.keys() == golden.keys()
    for stage, lines in golden.items():
        for name in LOSSES:
            expected = [line[name] for line in lines]
            # One and two threads differ by 2e-7 at the most; other processors and releases round otherwise.
            assert [line[name] for line in curves[stage]] == pytest.approx(expected, rel=1e-4), (stage, name)


def main(reason: str) -> None:
    """Write the golden numbers anew."""
    with tempfile.TemporaryDirectory() as folder:
        curves = run_stages(Path(folder))
    GOLDEN_PATH.write_text(json.dumps({"reason": reason, "curves": curves}, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
