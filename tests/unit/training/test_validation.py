import logging
import random

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from calico.assembly import open_finetuned
from calico.core.files import verify_manifest
from calico.core.pair_rows import PairTable
from calico.core.tables import write_pairs
from calico.core.tokens import IGNORE_LABEL_ID
from calico.data.loading.collate import collate
from calico.data.loading.dataset import build_pair_dataset
from calico.errors import DataError, TrainingError
from calico.models.losses import binary_cross_entropy, dice_loss, focal_loss
from calico.tracking import Run
from calico.training.align import align
from calico.training.checkpoints import RunFolder
from calico.training.finetune import finetune
from calico.training.step_log import best_step, read_record
from calico.training.validation import Validation, choose_pairs, mask_iou

NUM_STEPS = 6
NUM_PAIRS = 7  # three batches, of 3, 3 and 1


class RecordingRun(Run):
    """Keeps what would go to MLflow."""

    def __init__(self):
        super().__init__()
        self.logged = []

    def log_metrics(self, metrics, step=None):
        self.logged.append((step, dict(metrics)))


@pytest.fixture(scope="module")
def aligned_path(artifacts_path, config):
    if not (artifacts_path / "align" / "manifest.json").is_file():
        align(config, artifacts_path=artifacts_path, output_path=artifacts_path / "align", run=Run())
    return artifacts_path


@pytest.fixture(scope="module")
def section(config):
    values = {"num_steps": NUM_STEPS, "validate_every": 2, "num_validation_pairs": NUM_PAIRS}
    return config.finetune.model_copy(update=values)


def train(config, section, artifacts_path, output_path, run=None):
    """Return the records of all steps."""
    finetune(
        config.model_copy(update={"finetune": section}),
        "calico",
        artifacts_path=artifacts_path,
        output_path=output_path,
        run=run or Run(),
    )
    return [read_record(line) for line in (output_path / "log.jsonl").read_text().splitlines()]


def figures(records):
    """Return what validations found, without their times."""
    found = {one.step: vars(one.validation) for one in records if one.validation}
    return {step: {name: one[name] for name in one if name != "seconds"} for step, one in found.items()}


def with_losses(monkeypatch, losses):
    """Give validations these losses, one after the other; return what was trained at each."""
    seen = {}
    run = Validation.run

    def pretend(validation, step):
        seen[step] = {
            name: one.detach().clone()
            for name, one in validation._engine.module.named_parameters()
            if one.requires_grad
        }
        record = run(validation, step)
        return type(record)(**{**vars(record), "loss": losses[step]})

    monkeypatch.setattr(Validation, "run", pretend)
    return seen


def test_validation_leaves_no_trace_in_the_training(config, section, aligned_path, tmp_path, monkeypatch):
    states = []
    run = Validation.run

    def watch(validation, step):
        before = [torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()]
        record = run(validation, step)
        after = [torch.get_rng_state(), np.random.get_state()[1], random.getstate()]
        states.append(
            torch.equal(before[0], after[0]) and (before[1] == after[1]).all() and before[2:] == after[2:]
        )
        assert all(module.training for module in validation._engine.module.modules())
        return record

    monkeypatch.setattr(Validation, "run", watch)
    assert config.model.lora.dropout > 0
    for every in (0, 1):
        changed = section.model_copy(update={"validate_every": every})
        train(config, changed, aligned_path, tmp_path / str(every))
    assert states == [True] * NUM_STEPS
    never, always = (tmp_path / name / "trained.safetensors" for name in "01")
    assert never.read_bytes() == always.read_bytes()
    assert not (tmp_path / "0" / "best.safetensors").exists()
    assert verify_manifest(tmp_path / "0")["best_step"] is None


@pytest.mark.parametrize("mask_kind", ["focal", "bce"])
def test_figures_are_means_over_all_pairs(config, section, aligned_path, tmp_path, mask_kind):
    """Pair by pair, with the finished model, in evaluation mode."""
    losses = section.losses.model_copy(update={"mask_kind": mask_kind})
    section = section.model_copy(update={"losses": losses, "feature_cache": "none"})
    for name in ("sources", "unify", "pair", "checkpoints", "align"):
        (tmp_path / name).symlink_to(aligned_path / name)
    found = figures(train(config, section, tmp_path, tmp_path / "finetune" / "calico"))
    assembly = open_finetuned(config.model, "calico", tmp_path, runtime=config.runtime)
    dataset = build_pair_dataset(
        tmp_path / "unify",
        tmp_path / "sources",
        tmp_path / "pair" / "rows" / "val",
        tokenizer=assembly.tokenizer,
        model=config.model,
        variant="calico",
        mask_loss_px=section.mask_loss_px,
        seed=section.seed,
    )
    chosen = dataset.with_samples(choose_pairs(dataset.samples, section))
    text, mask, dice, iou = [], [], [], []
    for row in range(NUM_PAIRS):
        batch = collate([chosen[row]], pad_id=assembly.tokenizer.pad_token_id, seg_id=assembly.model.seg_id)
        with torch.no_grad():
            output = assembly.model(batch, assembly.model.encode_images(batch.views))
        logits_MSS = torch.nn.functional.interpolate(
            output.mask_logits_MGG[:, None], (section.mask_loss_px,) * 2, mode="bilinear"
        )[:, 0]
        target_MSS = batch.target_masks_MSS.float()
        pixel_loss = focal_loss if mask_kind == "focal" else binary_cross_entropy
        log_probabilities_TV = output.text_logits_TV.log_softmax(dim=-1)
        assert len(log_probabilities_TV) == (batch.labels_BL != IGNORE_LABEL_ID).sum()
        text += [
            -row_V[label] for row_V, label in zip(log_probabilities_TV, output.text_labels_T, strict=True)
        ]
        mask += pixel_loss(logits_MSS, target_MSS)
        dice += dice_loss(logits_MSS, target_MSS)
        for predicted_SS, true_SS in zip(logits_MSS.numpy() > 0, target_MSS.numpy() > 0, strict=True):
            iou.append((predicted_SS & true_SS).sum() / (predicted_SS | true_SS).sum())
    expected = {"text": np.mean(text), "mask": np.mean(mask), "dice": np.mean(dice), "mean_iou": np.mean(iou)}
    expected["loss"] = losses.text * expected["text"] + losses.mask * expected["mask"]
    expected["loss"] += losses.dice * expected["dice"]
    # Other batches round differently. Measured worst difference: 1e-7 relative.
    assert found[NUM_STEPS] == pytest.approx(expected, rel=1e-5)


def test_validations_come_in_time_and_after_the_last_step(config, section, aligned_path, tmp_path):
    run = RecordingRun()
    section = section.model_copy(update={"validate_every": 4})
    records = train(config, section, aligned_path, tmp_path, run)
    assert list(figures(records)) == [4, 6]
    logged = {step: metrics for step, metrics in run.logged if "validation_loss" in metrics}
    assert list(logged) == [4, 6]
    for step, metrics in logged.items():
        assert metrics == {
            f"validation_{name}": value for name, value in vars(records[step - 1].validation).items()
        }


def test_the_best_and_the_last_are_kept(config, section, aligned_path, tmp_path, monkeypatch):
    seen = with_losses(monkeypatch, {2: 0.5, 4: 0.7, 6: 0.5})
    section = section.model_copy(update={"checkpoint_every": 1, "keep_checkpoints": 1})
    records = train(config, section, aligned_path, tmp_path)
    assert best_step(records) == verify_manifest(tmp_path)["best_step"] == 2
    for name, step in (("best", 2), ("trained", 6)):
        stored = load_file(tmp_path / f"{name}.safetensors")
        assert stored.keys() == seen[step].keys()
        assert all(torch.equal(stored[key], seen[step][key]) for key in stored)
    assert any(not torch.equal(seen[2][key], seen[6][key]) for key in seen[2])
    with safe_open(tmp_path / "best.safetensors", framework="pt") as stream:
        assert '"step": "2"' in stream.metadata()["facts"]


def test_a_run_that_goes_on_has_the_same_best(config, section, aligned_path, tmp_path, monkeypatch, capsys):
    section = section.model_copy(update={"checkpoint_every": 1, "keep_checkpoints": 1})
    undisturbed = train(config, section, aligned_path, tmp_path / "undisturbed")
    best = min(figures(undisturbed).items(), key=lambda one: one[1]["loss"])[0]
    commit = RunFolder.commit

    def stop(folder, records):
        commit(folder, records)
        if len(records) == 5:
            names = sorted(path.name for path in folder.path.glob("step-*"))
            kept = {5, *([best_step(records)])}
            assert names == [f"step-{step:08d}" for step in sorted(kept)]
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "commit", stop)
    with pytest.raises(KeyboardInterrupt):
        train(config, section, aligned_path, tmp_path / "stopped")
    monkeypatch.undo()
    records = train(config, section, aligned_path, tmp_path / "stopped")
    assert "going on after step 5." in capsys.readouterr().err
    assert figures(records) == figures(undisturbed)
    assert best_step(records) == best
    for name in ("best", "trained"):
        first, second = (tmp_path / run / f"{name}.safetensors" for run in ("undisturbed", "stopped"))
        assert first.read_bytes() == second.read_bytes()


def test_a_damaged_best_does_not_undo_the_training(
    config, section, aligned_path, tmp_path, monkeypatch, caplog
):
    with_losses(monkeypatch, {2: 0.5, 4: 0.7, 6: 0.9})
    (tmp_path / "best.safetensors").write_bytes(b"of a training before")
    trained = RunFolder.trained

    def damage(folder, step):
        path = folder.path / f"step-{step:08d}" / "process-00000.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(bytes(content))
        return trained(folder, step)

    monkeypatch.setattr(RunFolder, "trained", damage)
    with caplog.at_level(logging.WARNING):
        train(config, section, aligned_path, tmp_path)
    assert "best.safetensors is left out; the last weights are whole" in caplog.text
    assert set(verify_manifest(tmp_path)["files"]) == {"log.jsonl", "trainable.json", "trained.safetensors"}


def test_a_loss_that_is_not_finite_stops_with_the_pairs(config, section, aligned_path, tmp_path, monkeypatch):
    def poison(output, target_masks_MSS):
        return torch.full((len(output),), float("nan"))

    monkeypatch.setattr("calico.training.validation.mask_iou", poison)
    with pytest.raises(TrainingError, match=r"validation after step 2: .* not finite .*pairs: \w+/paco_lvis"):
        train(config, section, aligned_path, tmp_path)


def test_the_chosen_pairs_are_a_function_of_the_seed(config, section, artifacts_path):
    pairs = PairTable(artifacts_path / "pair" / "rows" / "val")
    chosen = choose_pairs(pairs, section)
    assert len({one.pair_id for one in chosen}) == NUM_PAIRS < len(pairs)
    assert chosen == choose_pairs(pairs, section)
    assert chosen != choose_pairs(pairs, section.model_copy(update={"seed": section.seed + 1}))
    more = choose_pairs(pairs, section.model_copy(update={"num_validation_pairs": 1000}))
    assert more == list(pairs)


def test_no_val_pairs_are_an_error(section, tmp_path):
    write_pairs(tmp_path / "val.parquet", [])
    with pytest.raises(DataError, match="validate_every is 2, but there are no val pairs"):
        choose_pairs(PairTable(tmp_path / "rows" / "val"), section)


def test_iou_of_masks():
    target_MSS = torch.zeros(4, 4, 4, dtype=torch.uint8)
    target_MSS[:2, :2] = 1
    logits_MGG = torch.full((4, 4, 4), -1.0)
    logits_MGG[0, :2] = 1.0  # all of it
    logits_MGG[1, 1:3] = 1.0  # a row of it, and a row beside it
    logits_MGG[2, 0] = 1.0  # something where nothing is
    assert mask_iou(logits_MGG, target_MSS).tolist() == pytest.approx([1.0, 1 / 3, 0.0, 1.0])
