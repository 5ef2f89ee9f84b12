"""End a training at ten random points, with SIGKILL and with SIGTERM: `python -m benchmarks.killed_training`.

A small model of the tests is finetuned in processes of its own, by the stage's command. Each of the trainings
is ended once at a random moment of a random step, started again and left alone; its trained tensors must have
the bytes of the undisturbed run's. The last line is one JSON object.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from tests.small_artifacts import small_config, write_checkpoints, write_finetuned, write_tables

_SEED = 0
_NUM_POINTS = 10
_NUM_STEPS = 120
_CHECKPOINT_EVERY = 7
_ROOT = Path(__file__).parents[1]
_COMMAND = [sys.executable, "-m", "stages.finetune", "small", "calico"]
_SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM}


def main() -> None:
    """Measure and print; exit with 1 if any byte differs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_project(folder)
        undisturbed = _finish(folder)[0]
        generator = random.Random(_SEED)
        points = [
            {"signal": signal_name, **_interrupt(folder, number, generator, undisturbed)}
            for signal_name, number in _SIGNALS.items()
            for _ in range(_NUM_POINTS)
        ]
    for point in points:
        print(json.dumps(point))
    result = {
        f"{name.lower()}_{what}": sum(point[what] for point in points if point["signal"] == name)
        for name in _SIGNALS
        for what in ("ended", "equal")
    }
    print(json.dumps({**result, "steps": _NUM_STEPS, "checkpoint_every": _CHECKPOINT_EVERY}))
    if not all(point["ended"] and point["equal"] for point in points):
        raise SystemExit(1)


def _write_project(folder: Path) -> None:
    config = small_config()
    profile = config.model_dump()
    profile["finetune"] |= {"num_steps": _NUM_STEPS, "checkpoint_every": _CHECKPOINT_EVERY}
    (folder / "params.yaml").write_text(yaml.safe_dump({"small": profile}))
    artifacts_path = folder / "artifacts" / "small"
    write_tables(artifacts_path)
    write_checkpoints(artifacts_path, config)
    write_finetuned(artifacts_path, config, "calico")  # for the alignment; finetuned anew below


def _start(folder: Path) -> "subprocess.Popen[str]":
    environment = {
        **os.environ,
        "PYTHONPATH": str(_ROOT),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    return subprocess.Popen(
        _COMMAND, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def _finish(folder: Path) -> tuple[bytes, int]:
    """Run to the end; return the trained bytes and the step that the run went on after, 0 from the start."""
    process = _start(folder)
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"error: the training failed: {errors}")
    found = re.search(r"going on after step (\d+)", errors)
    trained = (folder / "artifacts/small/finetune/calico/trained.safetensors").read_bytes()
    return trained, int(found[1]) if found else 0


def _interrupt(folder: Path, number: int, generator: random.Random, undisturbed: bytes) -> dict[str, Any]:
    """End one training in a random step, finish it, compare."""
    log_path = folder / "artifacts/small/finetune/calico/log.jsonl"
    log_path.unlink(missing_ok=True)
    step = generator.randrange(1, _NUM_STEPS - 5)
    process = _start(folder)
    while process.poll() is None and not (
        log_path.is_file() and len(log_path.read_text().splitlines()) >= step
    ):
        time.sleep(0.001)
    time.sleep(generator.random() * 0.05)  # anywhere in a step or a checkpoint
    process.send_signal(number)
    process.communicate()
    expected_code = -number if number == signal.SIGKILL else 128 + number
    trained, went_on_after = _finish(folder)
    return {
        "asked_after_step": step,
        "ended": process.returncode == expected_code,
        "went_on_after_step": went_on_after,
        "equal": trained == undisturbed,
    }


if __name__ == "__main__":
    main()
