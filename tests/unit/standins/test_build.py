"""The manifest: what is done is skipped, what changed is built again; and the committed stand-ins."""

from pathlib import Path

import pytest
import torch

from calico.checkpoints.layout import PRETRAINED_COMPONENTS
from calico.checkpoints.loader import load_component
from calico.checkpoints.standins import install_standins
from calico.config import load_config
from calico.core.files import read_json
from calico.errors import CheckpointError
from calico.standins import __main__ as command
from calico.standins.build import TASKS, build_standins, is_done, publish
from calico.standins.encoders import ENCODERS

CONFIG = load_config("tiny")
COMMITTED = Path(__file__).parents[3] / "standins"
MAX_BYTES = 12_000_000


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    encoder = ENCODERS["semantic_encoder"].build(CONFIG.model)
    publish(
        tmp_path,
        "semantic_encoder",
        {"semantic_encoder": encoder},
        {"figure": 0.5},
        cpu_seconds=1.0,
        config=CONFIG,
    )
    return tmp_path


def test_publish_writes_what_the_loader_takes(folder):
    entry = read_json(folder / "manifest.json")["components"]["semantic_encoder"]
    module = ENCODERS["semantic_encoder"].build(CONFIG.model)
    report = load_component(module, folder / entry["file"], sha256=entry["sha256"])
    assert report.parameters == entry["parameters"]
    assert entry["bytes"] == (folder / entry["file"]).stat().st_size


def test_is_done_follows_file_and_settings(folder):
    assert is_done(folder, "semantic_encoder", CONFIG)
    assert not is_done(folder, "clip", CONFIG)
    synthesize = CONFIG.synthesize.model_copy(update={"difficulty": 0.9})
    assert not is_done(folder, "semantic_encoder", CONFIG.model_copy(update={"synthesize": synthesize}))
    path = folder / "semantic_encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert not is_done(folder, "semantic_encoder", CONFIG)


def test_build_standins_unknown_task_is_an_error(folder):
    with pytest.raises(CheckpointError, match="no stand-in task dino; choose from grounding"):
        build_standins(CONFIG, folder=folder, work_path=folder / "work", only=["dino"])


def test_command_unknown_task_exits_2_with_one_sentence(capsys):
    assert command.main(["--only", "dino"]) == 2
    assert capsys.readouterr().err.startswith("error: no stand-in task dino")


def test_tasks_give_every_pretrained_component():
    assert {name for task in TASKS.values() for name in task.components} == set(PRETRAINED_COMPONENTS)


def test_committed_standins_are_complete_current_and_small(tmp_path):
    components = install_standins(COMMITTED, tmp_path)
    assert all(is_done(COMMITTED, name, CONFIG) for name in TASKS)
    assert sum(entry["bytes"] for entry in components.values()) <= MAX_BYTES


def test_committed_standins_nothing_to_build(tmp_path):
    lines = []
    build_standins(CONFIG, folder=COMMITTED, work_path=tmp_path, log=lines.append)
    assert lines == [f"{COMMITTED}: all stand-ins are up to date."]
    assert list(tmp_path.iterdir()) == []
