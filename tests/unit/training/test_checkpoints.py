import logging
import os
import signal
from dataclasses import replace

import pytest
import torch

from calico.errors import CheckpointError, DataError, TrainingError
from calico.training.checkpoints import RunFolder
from calico.training.interruption import Interruption
from calico.training.step_log import (
    StepRecord,
    ValidationRecord,
    best_step,
    read_record,
    write_record,
)

IDENTITY = {"stage": "finetune", "params_sha256": "a", "num_processes": 1}


def make_folder(path, **changes):
    return RunFolder(path, "finetune-calico", {**IDENTITY, **changes}, keep=2)


def records(count):
    times = (0.25, 12.0, 0.1, 0.2, 0.3, 0.3, 0.1)
    return [StepRecord(step + 1, 0.1, 0.2, 0.3, 0.4, 1e-3, 1.5, *times) for step in range(count)]


def write(folder, step):
    folder.save(step, {"trained/w": torch.full((3,), float(step))}, rank=0)
    folder.commit(records(step))


def test_the_newest_checkpoint_comes_back(tmp_path):
    folder = make_folder(tmp_path)
    assert folder.latest(rank=0) is None
    for step in (2, 4, 6):
        write(folder, step)
    found = folder.latest(rank=0)
    assert found.records == records(6)
    assert found.tensors["trained/w"].tolist() == [6.0, 6.0, 6.0]
    assert [path.name for path in sorted(folder.path.glob("step-*"))] == ["step-00000004", "step-00000006"]
    folder.remove()
    assert not folder.path.exists()


def validated(losses):
    """Return a record a step, with these validation losses; None where a step has none."""
    return [
        replace(
            record,
            validation=None if loss is None else ValidationRecord(loss, 0.1, 0.1, 0.1, 0.5, 1.0),
        )
        for record, loss in zip(records(len(losses)), losses, strict=True)
    ]


def test_the_best_of_every_checkpoint_that_a_run_may_go_on_from_is_kept(tmp_path):
    folder = make_folder(tmp_path)
    history = validated([0.9, 0.5, None, None, 0.4, None, 0.7, None])
    kept = {1: {1}, 2: {1, 2}, 4: {2, 4}, 5: {2, 4, 5}, 7: {5, 7}, 8: {5, 7, 8}}
    for step, expected in kept.items():
        folder.save(
            step, {"trained/w": torch.full((3,), float(step)), "optimizer/0/step": torch.ones(1)}, rank=0
        )
        folder.commit(history[:step])
        assert {int(path.name[-2:]) for path in folder.path.glob("step-*")} == expected
    assert folder.latest(rank=0).records == history
    assert {name: one.tolist() for name, one in folder.trained(5).items()} == {"w": [5.0, 5.0, 5.0]}
    with pytest.raises(DataError, match="no such file"):
        folder.trained(2)


def test_the_best_step_is_the_first_of_the_lowest_loss():
    assert best_step(validated([None, 0.5, 0.4, 0.4])) == 3
    assert best_step(records(3)) is None


def test_a_record_comes_back_from_its_line():
    for record in validated([0.5, None]):
        assert read_record(write_record(record)) == record


def test_a_checkpoint_without_its_manifest_does_not_count(tmp_path):
    folder = make_folder(tmp_path)
    write(folder, 2)
    folder.save(4, {"trained/w": torch.zeros(3)}, rank=0)
    assert len(folder.latest(rank=0).records) == 2


def test_any_flipped_bit_is_found_and_the_checkpoint_before_is_used(tmp_path, caplog):
    folder = make_folder(tmp_path)
    for step in (2, 4):
        write(folder, step)
    path = folder.path / "step-00000004" / "process-00000.safetensors"
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(bytes(damaged))
        with caplog.at_level(logging.WARNING):
            assert len(folder.latest(rank=0).records) == 2
        assert "sha256 is" in caplog.messages[-1]
        assert str(path) in caplog.messages[-1]
    path.write_bytes(content)
    assert len(folder.latest(rank=0).records) == 4


def test_other_values_have_another_folder(tmp_path):
    write(make_folder(tmp_path), 2)
    other = make_folder(tmp_path, params_sha256="b")
    assert other.path != make_folder(tmp_path).path
    assert other.latest(rank=0) is None


def test_checkpoints_of_another_run_are_described(tmp_path):
    other = make_folder(tmp_path, num_processes=2)
    write(other, 2)
    write(other, 4)
    assert make_folder(tmp_path).others() == [f"{other.path}/step-00000004 (num_processes 2 -> 1)"]
    assert other.others() == []


def test_a_checkpoint_moved_from_another_run_is_refused_with_the_difference(tmp_path):
    other, folder = make_folder(tmp_path, num_processes=2, params_sha256="b"), make_folder(tmp_path)
    write(other, 2)
    other.path.rename(folder.path)
    with pytest.raises(
        CheckpointError, match="of another run; different: num_processes 2 -> 1, params_sha256 b -> a"
    ):
        folder.latest(rank=0)


def test_two_trainings_of_one_run_exclude_each_other(tmp_path):
    with make_folder(tmp_path).locked():
        with (
            pytest.raises(TrainingError, match=rf"already runs \(process {os.getpid()} on .* since"),
            make_folder(tmp_path).locked(),
        ):
            pass
        with make_folder(tmp_path, params_sha256="b").locked():
            pass
    with make_folder(tmp_path).locked():
        pass


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    folder = make_folder(tmp_path)
    write(folder, 2)

    def fail(tensors, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("calico.training.checkpoints.save_file", fail)
    with pytest.raises(DataError, match="the disk is full"):
        write(folder, 4)
    assert len(folder.latest(rank=0).records) == 2
    assert not list(folder.path.rglob("*partial"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with Interruption() as interruption:
        assert interruption.signal_number == 0
        os.kill(os.getpid(), number)
        assert interruption.signal_number == number
        assert signal.getsignal(number) == before
    assert signal.getsignal(number) == before
