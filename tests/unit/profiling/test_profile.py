import pytest

from calico.assembly import ALIGNED_FILE, TRAINED_FILE, open_aligned, open_pretrained
from calico.checkpoints.loader import save_trained
from calico.core import tables
from calico.core.files import read_json, write_manifest
from calico.core.tokens import TASKS
from calico.errors import DataError
from calico.models.trainable import set_trainable
from calico.profiling.profile import profile
from tests.small_artifacts import small_config, write_checkpoints, write_tables


@pytest.fixture(scope="module")
def config():
    config = small_config()
    section = config.profile.model_copy(update={"num_repeats": 1, "num_latency_pairs": 1})
    return config.model_copy(update={"profile": section})


@pytest.fixture(scope="module")
def artifacts_path(tmp_path_factory, config):
    path = tmp_path_factory.mktemp("artifacts")
    write_tables(path)
    write_checkpoints(path, config)
    assembly = open_pretrained(config.model, "calico", path)
    set_trainable(assembly.model, "align")
    save_trained(assembly.model, path / "align" / ALIGNED_FILE)
    for variant in config.model.variants:
        assembly = open_aligned(config.model, variant, path)
        set_trainable(assembly.model, "finetune")
        save_trained(assembly.model, path / "finetune" / variant / TRAINED_FILE, facts={"variant": variant})
        write_manifest(path / "finetune" / variant, pretrained=dict(assembly.digests))
    return path


@pytest.fixture(scope="module")
def report(config, artifacts_path, tmp_path_factory):
    output_path = tmp_path_factory.mktemp("profile")
    report = profile(config, artifacts_path=artifacts_path, output_path=output_path)
    assert read_json(output_path / "profile.json") == report
    return report


def test_every_variant_is_measured(report, config):
    assert set(report["models"]) == set(config.model.variants)
    for costs in report["models"].values():
        assert set(costs["latency"]) == {*TASKS, "mean"}
        assert all(timing["total"] > 0 for timing in costs["latency"].values())
        assert costs["peak_gb"] > 0
        assert costs["flops"]["total"] == sum(costs["flops"]["components"].values())
        assert 1.0 < costs["flops"]["deepspeed"] / costs["flops"]["total"] < 1.1
        for timing in costs["latency"].values():
            assert timing["prefill"] > 0
            assert timing["total"] == pytest.approx(timing["encode"] + timing["generate"] + timing["masks"])


def test_image_tokens_are_the_variants_own(report):
    tokens = {name: costs["image_tokens"] for name, costs in report["models"].items()}
    assert tokens == {"calico": 2, "lisa": 4, "glamm": 9}


def test_trained_parameters_are_those_of_finetuning(report):
    parameters = report["models"]["calico"]["parameters"]
    trained = {name for name, counts in parameters.items() if counts["trainable"]}
    assert trained == {"cams", "cem", "language_model", "lora", "mask_decoder", "all"}
    assert parameters["language_model"]["trainable"] == parameters["lora"]["total"]


def test_a_task_without_pairs_is_an_error(config, artifacts_path, tmp_path):
    pairs = tables.read_pairs(artifacts_path / "pair" / "test.parquet")
    others = [pair for pair in pairs if pair.task != "unique_parts"]
    copy = tmp_path / "artifacts"
    copy.mkdir()
    for folder in artifacts_path.iterdir():
        (copy / folder.name).symlink_to(folder)
    (copy / "pair").unlink()
    tables.write_pairs(copy / "pair" / "test.parquet", others)
    with pytest.raises(DataError, match="task 'unique_parts' has no pair among 12 test pairs"):
        profile(config, artifacts_path=copy, output_path=tmp_path)
