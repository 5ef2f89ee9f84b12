"""A training that dies goes on where it was, to the same bytes; two processes give the losses of one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.small_artifacts import small_config, write_checkpoints, write_finetuned, write_tables

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
NUM_STEPS = 40
COMMAND = [sys.executable, "-m", "stages.finetune", "small", "calico"]


def write_profile(folder: Path, **changes: object) -> None:
    profile = small_config().model_dump()
    profile["finetune"] |= {
        "num_steps": NUM_STEPS,
        "checkpoint_every": 8,
        "validate_every": 12,
        "num_validation_pairs": 5,
        **changes,
    }
    (folder / "params.yaml").write_text(yaml.safe_dump({"small": profile}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("project")
    write_profile(path)
    artifacts_path = path / "artifacts" / "small"
    write_tables(artifacts_path)
    write_checkpoints(artifacts_path, small_config())
    write_finetuned(artifacts_path, small_config(), "calico")  # for the alignment; finetuned anew below
    return path


def environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }


def start(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        COMMAND,
        cwd=folder,
        env=environment(folder),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(folder: Path) -> tuple[str, list[bytes]]:
    """Run to the end; return what was said and the trained bytes, the last and the best."""
    process = start(folder)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    output_path = folder / "artifacts/small/finetune/calico"
    return errors, [(output_path / f"{name}.safetensors").read_bytes() for name in ("trained", "best")]


def stop_after(folder: Path, num_steps: int, number: int) -> int:
    """Send a signal once `num_steps` steps are logged; return the exit code."""
    log_path = folder / "artifacts/small/finetune/calico/log.jsonl"
    log_path.unlink(missing_ok=True)
    process = start(folder)
    deadline = time.monotonic() + 120
    while not log_path.is_file() or len(log_path.read_text().splitlines()) < num_steps:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    process.communicate(timeout=120)
    return process.returncode


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> list[bytes]:
    _, trained = finish(folder)
    assert not list((folder / "artifacts/small/runs").iterdir())
    return trained


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_a_training_that_is_ended_goes_on_to_the_same_bytes(
    folder: Path, undisturbed: list[bytes], number: int, code: int
) -> None:
    assert stop_after(folder, 13, number) == code

    errors, trained = finish(folder)

    # The first validation is the best so far and writes a checkpoint.
    expected = "after step 12." if number == signal.SIGKILL else "going on after step"
    assert expected in errors
    assert trained == undisturbed
    steps = [
        json.loads(line)["step"]
        for line in (folder / "artifacts/small/finetune/calico/log.jsonl").read_text().splitlines()
    ]
    assert steps == list(range(1, NUM_STEPS + 1))
    assert not list((folder / "artifacts/small/runs").iterdir())


def test_two_processes_with_zero_2_give_the_losses_of_one(
    folder: Path, undisturbed: list[bytes], tmp_path: Path
) -> None:
    del undisturbed  # its run must be over
    curves, validations = {}, {}
    log_path = folder / "artifacts/small/finetune/calico/log.jsonl"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for count, launcher in ((1, [sys.executable]), (2, torchrun)):
        write_profile(folder, num_steps=12, zero_stage=2, batch_size=2, accumulation=2, validate_every=5)
        result = subprocess.run(
            [*launcher, *COMMAND[1:]],
            cwd=folder,
            env=environment(folder),
            check=False,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        records = [json.loads(line) for line in log_path.read_text().splitlines()]
        curves[count] = [record["loss"] for record in records]
        validations[count] = {
            record["step"]: record["validation"] for record in records if record["validation"]
        }
    write_profile(folder)
    assert len(curves[2]) == 12
    # Two gradients add up alike in either order: measured worst case 0. Other processors may round otherwise.
    assert curves[2] == pytest.approx(curves[1], rel=1e-6)
    # Three batches, of which the first process has two.
    assert list(validations[2]) == [5, 10, 12]
    for step, found in validations[2].items():
        expected = validations[1][step]
        del found["seconds"], expected["seconds"]
        assert found == pytest.approx(expected, rel=1e-6)


def test_a_trainer_dies_with_the_pipeline_that_started_it(folder: Path, undisturbed: list[bytes]) -> None:
    del undisturbed
    write_profile(folder, num_steps=100_000)
    log_path = folder / "artifacts/small/finetune/calico/log.jsonl"
    log_path.unlink(missing_ok=True)
    script = f"import subprocess, sys; print(subprocess.Popen({COMMAND!r}).pid, flush=True); sys.stdin.read()"
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**environment(folder), "DVC_STAGE": "finetune@calico"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    trainer = int(parent.stdout.readline())
    wait_for(lambda: log_path.is_file() and len(log_path.read_text().splitlines()) > 3)

    parent.kill()
    parent.wait()

    wait_for(lambda: not is_alive(trainer))
    (run,) = (folder / "artifacts/small/runs").glob("finetune-calico-*")
    assert list(run.glob("step-*/manifest.json"))  # it left a checkpoint
    shutil.rmtree(run)
    write_profile(folder)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(process_id: int) -> bool:
    """Tell whether a process runs; one that nobody has waited for yet does not."""
    try:
        status = Path(f"/proc/{process_id}/status").read_text()
    except FileNotFoundError:
        return False
    return "State:\tZ" not in status
