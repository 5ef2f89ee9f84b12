"""Benchmarks that go through the whole training still run and their sides agree; nothing is timed here."""

import pytest
import torch

from benchmarks import training
from calico.assembly import torch_settings

pytestmark = pytest.mark.integration


def test_training_benchmark_gives_its_figures(tmp_path, monkeypatch):
    """Cached, uncached and plain PyTorch have the same losses at the first step, else it leaves."""
    monkeypatch.setattr(training, "_NUM_IMAGES", {"train": 12, "val": 0, "test": 0})
    monkeypatch.setattr(training, "_NUM_PAIRS", 8)
    monkeypatch.setattr(training, "_NUM_ROUNDS", 1)
    monkeypatch.setattr(training, "_STEPS_PER_ROUND", 1)
    config = training._config()
    generator_state = torch.get_rng_state()
    with torch_settings(config.runtime):
        training._write_artifacts(config, tmp_path)
        figures = training._measure(config, tmp_path)
    torch.set_rng_state(generator_state)
    assert set(figures) == {
        "step_seconds_cached",
        "step_seconds_uncached",
        "ratio",
        "samples_per_second",
        "data_share",
        "checkpoint_vs_torch_save",
    }
    assert all(value > 0 for value in figures.values())
