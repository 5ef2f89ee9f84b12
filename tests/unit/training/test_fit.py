import json
from dataclasses import fields

import pytest
import torch
from safetensors.torch import load_file, save_file

from calico.assembly import open_pretrained
from calico.core.files import verify_manifest
from calico.errors import AlignmentError, CheckpointError, DataError, TrainingError
from calico.models.losses import compute_losses
from calico.models.trainable import set_trainable
from calico.tracking import Run
from calico.training.align import align
from calico.training.finetune import finetune
from calico.training.fit import check_trainable
from calico.training.step_log import StepRecord

# What a step computes; the other fields say how long it took.
RESULTS = ("step", "loss", "text", "mask", "dice", "lr", "grad_norm")


class RecordingRun(Run):
    """Keeps what would go to MLflow."""

    def __init__(self):
        super().__init__()
        self.logged = []

    def log_metrics(self, metrics, step=None):
        self.logged.append((step, dict(metrics)))


def with_section(config, name, **changes):
    return config.model_copy(update={name: getattr(config, name).model_copy(update=changes)})


def read_log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def aligned(artifacts_path, config):
    """The artefacts with the alignment done, and what it logged."""
    run = RecordingRun()
    align(config, artifacts_path=artifacts_path, output_path=artifacts_path / "align", run=run)
    return run


def run_finetune(config, variant, artifacts_path, output_path, run=None):
    finetune(config, variant, artifacts_path=artifacts_path, output_path=output_path, run=run or Run())
    return read_log(output_path), load_file(output_path / "trained.safetensors")


def test_align_trains_the_qformer_and_f_image_alone(artifacts_path, config, aligned):
    folder = artifacts_path / "align"
    pretrained = open_pretrained(config.model, "calico", artifacts_path).model.state_dict()
    trained = load_file(folder / "aligned.safetensors")
    assert {name.split(".")[0] for name in trained} == {"qformer", "f_image"}
    assert any(not torch.equal(tensor, pretrained[name]) for name, tensor in trained.items())
    manifest = verify_manifest(folder)
    assert manifest["stage"] == "align"
    assert manifest["num_samples"] == 6
    assert manifest["trainable"]["parameters"] == sum(tensor.numel() for tensor in trained.values())


def test_log_has_a_line_per_step_and_the_tracker_the_means(artifacts_path, config, aligned):
    log = read_log(artifacts_path / "align")
    assert [line["step"] for line in log] == [1, 2, 3, 4]
    assert set(log[0]) == {field.name for field in fields(StepRecord)}
    weights = config.align.losses
    for line in log:
        weighted = weights.text * line["text"] + weights.mask * line["mask"] + weights.dice * line["dice"]
        assert line["loss"] == pytest.approx(weighted, rel=1e-5)
    assert [step for step, _ in aligned.logged] == [2, 4]
    assert aligned.logged[1][1]["loss"] == pytest.approx((log[2]["loss"] + log[3]["loss"]) / 2)


@pytest.mark.parametrize(
    ("variant", "prefixes"),
    [
        ("calico", {"language_model", "mask_decoder", "cem", "cams"}),
        ("lisa", {"language_model", "mask_decoder"}),
        ("glamm", {"language_model", "mask_decoder"}),
    ],
)
def test_finetune_trains_what_the_paper_trains(artifacts_path, config, aligned, tmp_path, variant, prefixes):
    _, trained = run_finetune(config, variant, artifacts_path, tmp_path)
    assert {name.split(".")[0] for name in trained} == prefixes
    adapters = [name for name in trained if name.startswith("language_model")]
    assert len(adapters) == 4 * config.model.language_model.num_layers
    assert all(".lora_" in name for name in adapters)
    stored = json.loads((tmp_path / "trainable.json").read_text())
    assert stored["shapes"] == {name: list(tensor.shape) for name, tensor in sorted(trained.items())}
    assert stored["tensors"] == len(trained)
    manifest = verify_manifest(tmp_path)
    assert ("aligned" in manifest["pretrained"]) == (variant == "calico")


def test_frozen_weights_keep_their_bits(artifacts_path, config, aligned, tmp_path, monkeypatch):
    kept = {}

    def remember(section, variant, path):
        from calico.assembly import open_aligned

        assembly = open_aligned(section, variant, path)
        kept["model"] = assembly.model
        kept["before"] = {name: tensor.clone() for name, tensor in assembly.model.state_dict().items()}
        return assembly

    monkeypatch.setattr("calico.training.finetune.open_aligned", remember)
    _, trained = run_finetune(config, "calico", artifacts_path, tmp_path)
    after = kept["model"].state_dict()
    changed = {name for name, tensor in kept["before"].items() if not torch.equal(tensor, after[name])}
    assert changed
    assert changed <= set(trained)


def test_a_frozen_weight_that_changes_stops_the_run(artifacts_path, config, aligned, tmp_path, monkeypatch):
    def touch(engine, *arguments, **others):
        with torch.no_grad():
            engine.module.f_segmentation[0].weight.view(torch.int32)[0, 0] ^= 1
        return []

    monkeypatch.setattr("calico.training.fit.train", touch)
    with pytest.raises(TrainingError, match="weights that must stay frozen changed while training"):
        run_finetune(config, "calico", artifacts_path, tmp_path)
    assert not (tmp_path / "trained.safetensors").exists()


def test_the_same_seed_gives_the_same_bytes(artifacts_path, config, aligned, tmp_path):
    logs = []
    for name in ("first", "second"):
        log, _ = run_finetune(config, "calico", artifacts_path, tmp_path / name)
        logs.append([{name: line[name] for name in RESULTS} for line in log])
    assert logs[0] == logs[1]
    first, second = (tmp_path / name / "trained.safetensors" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_features_from_the_cache_and_on_the_fly_train_alike(artifacts_path, config, aligned, tmp_path):
    cached, _ = run_finetune(config, "calico", artifacts_path, tmp_path / "cached")
    uncached = with_section(config, "finetune", feature_cache="none")
    fresh, _ = run_finetune(uncached, "calico", artifacts_path, tmp_path / "fresh")
    # Another batch size in the encoders rounds differently. Measured worst difference: 2e-7 relative.
    assert [line["loss"] for line in cached] == pytest.approx([line["loss"] for line in fresh], rel=1e-5)


def test_a_cache_on_disk_trains_to_the_bytes_of_one_in_memory(artifacts_path, config, aligned, tmp_path):
    in_memory, _ = run_finetune(config, "calico", artifacts_path, tmp_path / "memory")
    on_disk = with_section(config, "finetune", feature_cache="disk")
    filled, _ = run_finetune(on_disk, "calico", artifacts_path, tmp_path / "filled")
    files = sorted((artifacts_path / "features").rglob("*.safetensors"))
    written = [path.stat().st_mtime_ns for path in files]
    read, _ = run_finetune(on_disk, "calico", artifacts_path, tmp_path / "read")
    assert len(files) == 2
    assert [path.stat().st_mtime_ns for path in files] == written
    for log in (filled, read):
        assert [{name: line[name] for name in RESULTS} for line in log] == [
            {name: line[name] for name in RESULTS} for line in in_memory
        ]


@pytest.mark.parametrize("feature_cache", ["memory", "none"])
def test_workers_change_nothing(artifacts_path, config, aligned, tmp_path, feature_cache):
    logs = []
    for num_workers in (0, 2):
        changed = with_section(config, "finetune", num_workers=num_workers, feature_cache=feature_cache)
        log, _ = run_finetune(changed, "calico", artifacts_path, tmp_path / str(num_workers))
        logs.append([{name: line[name] for name in RESULTS} for line in log])
    assert logs[0] == logs[1]


def test_a_damaged_sample_in_a_worker_is_one_sentence(artifacts_path, config, aligned, tmp_path):
    text = with_section(config, "finetune", num_workers=1)
    language_model = text.model.language_model.model_copy(update={"max_length": 20})
    short = text.model_copy(
        update={"model": text.model.model_copy(update={"language_model": language_model})}
    )
    with pytest.raises(AlignmentError, match=r"^sample '.*': \d+ tokens, but model.language_model.max_le"):
        run_finetune(short, "calico", artifacts_path, tmp_path)


def test_shares_of_a_step_add_up(artifacts_path, config, aligned, tmp_path):
    log, _ = run_finetune(config, "calico", artifacts_path, tmp_path)
    for line in log:
        shares = [value for name, value in line.items() if name.endswith("_share")]
        assert len(shares) == 5
        assert sum(shares) == pytest.approx(1)
        assert line["samples_per_second"] == pytest.approx(config.finetune.batch_size / line["seconds"])


def test_gradient_checkpointing_trains_to_the_same_bytes(artifacts_path, config, aligned, tmp_path):
    run_finetune(config, "calico", artifacts_path, tmp_path / "plain")
    changed = with_section(config, "finetune", gradient_checkpointing=True)
    run_finetune(changed, "calico", artifacts_path, tmp_path / "checkpointed")
    plain, checkpointed = (
        (tmp_path / name / "trained.safetensors").read_bytes() for name in ("plain", "checkpointed")
    )
    assert plain == checkpointed


def test_too_little_memory_says_what_to_change(artifacts_path, config, aligned, tmp_path, monkeypatch):
    def fail(*arguments, **others):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("calico.training.loop.compute_losses", fail)
    with pytest.raises(
        TrainingError,
        match=r"step 1: out of memory with 3 pairs of up to \d+ tokens and 6 masks \(\w+/.*Set gradient_chec",
    ):
        run_finetune(config, "calico", artifacts_path, tmp_path)


def test_accumulated_micro_batches_count_as_one_step(artifacts_path, config, aligned, tmp_path):
    accumulated = with_section(config, "finetune", batch_size=1, accumulation=3)
    log, _ = run_finetune(accumulated, "calico", artifacts_path, tmp_path)
    assert [line["step"] for line in log] == [1, 2, 3, 4]


def test_a_loss_that_is_not_finite_stops_with_the_pairs(
    artifacts_path, config, aligned, tmp_path, monkeypatch
):
    def poison(output, batch, section, **share):
        losses = compute_losses(output, batch, section, **share)
        return {**losses, "total": losses["total"] * float("nan")}

    monkeypatch.setattr("calico.training.loop.compute_losses", poison)
    with pytest.raises(
        TrainingError, match=r"step 1: the losses are not finite \(total nan, .*common_objects/"
    ):
        run_finetune(config, "calico", artifacts_path, tmp_path)
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [("total", "losses are not finite"), ("gradient", "norm of the gradients is (nan|inf)")],
)
def test_the_last_good_checkpoint_outlives_what_is_not_finite(  # noqa: PLR0917
    artifacts_path, config, aligned, tmp_path, monkeypatch, capsys, name, message
):
    calls = []

    def poison(output, batch, section, **share):
        losses = compute_losses(output, batch, section, **share)
        calls.append(1)
        if len(calls) != 4:
            return losses
        if name == "gradient":
            # Finite forward, infinite backward: the square root of a difference that is zero.
            return {**losses, "total": losses["total"] + (losses["total"] - losses["total"].detach()).sqrt()}
        return {**losses, "total": losses["total"] * float("nan")}

    changed = with_section(config, "finetune", checkpoint_every=1, num_steps=6)
    undisturbed, _ = run_finetune(changed, "calico", artifacts_path, tmp_path / "undisturbed")
    monkeypatch.setattr("calico.training.loop.compute_losses", poison)
    with pytest.raises(TrainingError, match=f"step 4: the {message}"):
        run_finetune(changed, "calico", artifacts_path, tmp_path / "stopped")
    monkeypatch.undo()
    log, _ = run_finetune(changed, "calico", artifacts_path, tmp_path / "stopped")
    assert "going on after step 3." in capsys.readouterr().err
    assert [line["loss"] for line in log] == [line["loss"] for line in undisturbed]


def test_a_full_disk_leaves_the_checkpoint_to_go_on_from(
    artifacts_path, config, aligned, tmp_path, monkeypatch, capsys
):
    changed = with_section(config, "finetune", checkpoint_every=2, num_steps=6)
    undisturbed, _ = run_finetune(changed, "calico", artifacts_path, tmp_path / "undisturbed")
    written = []

    def fill_up(tensors, path):
        written.append(path)
        if len(written) == 2:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save_file(tensors, path)

    monkeypatch.setattr("calico.training.checkpoints.save_file", fill_up)
    with pytest.raises(DataError, match="the disk is full"):
        run_finetune(changed, "calico", artifacts_path, tmp_path / "stopped")
    log, _ = run_finetune(changed, "calico", artifacts_path, tmp_path / "stopped")
    assert "going on after step 2." in capsys.readouterr().err
    assert [line["loss"] for line in log] == [line["loss"] for line in undisturbed]


def test_values_that_leave_the_result_alone_may_change_between(
    artifacts_path, config, aligned, tmp_path, monkeypatch, capsys
):
    changed = with_section(config, "finetune", checkpoint_every=2, num_steps=6)
    stop_at_the_second_checkpoint(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run_finetune(changed, "calico", artifacts_path, tmp_path)
    monkeypatch.undo()
    freely = with_section(changed, "finetune", num_workers=1, gradient_checkpointing=True, log_every=1)
    run_finetune(freely, "calico", artifacts_path, tmp_path)
    assert "going on after step 4." in capsys.readouterr().err


def test_another_value_starts_anew_and_says_so(
    artifacts_path, config, aligned, tmp_path, monkeypatch, capsys
):
    changed = with_section(config, "finetune", checkpoint_every=2, num_steps=6)
    stop_at_the_second_checkpoint(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run_finetune(changed, "calico", artifacts_path, tmp_path)
    monkeypatch.undo()
    other = with_section(changed, "finetune", learning_rate=1e-5)
    run_finetune(other, "calico", artifacts_path, tmp_path)
    rate = changed.finetune.learning_rate
    assert f"step-00000004 (section.learning_rate {rate} -> 1e-05)" in capsys.readouterr().err
    run_finetune(changed, "calico", artifacts_path, tmp_path)


def stop_at_the_second_checkpoint(monkeypatch):
    from calico.training.checkpoints import RunFolder

    commit = RunFolder.commit

    def stop(folder, records):
        commit(folder, records)
        if len(records) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "commit", stop)


def test_a_stray_trainable_parameter_is_refused(artifacts_path, config):
    model = open_pretrained(config.model, "calico", artifacts_path).model
    set_trainable(model, "finetune")
    assert check_trainable(model, "finetune")["tensors"] > 0
    model.f_segmentation[0].weight.requires_grad_(True)
    model.cem.requires_grad_(False)
    with pytest.raises(TrainingError, match=r"stage finetune: \d+ parameters .*cem\."):
        check_trainable(model, "finetune")


def test_calico_without_alignment_is_refused(artifacts_path, config, tmp_path):
    for name in ("checkpoints", "unify", "pair", "sources"):
        (tmp_path / name).symlink_to(artifacts_path / name)
    with pytest.raises(CheckpointError, match=r"align/aligned.safetensors: no such file"):
        run_finetune(config, "calico", tmp_path, tmp_path / "finetune")
