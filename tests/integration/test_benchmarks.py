"""Benchmarks that take a while still run, and their sides agree; nothing is timed here."""

from pathlib import Path

import pytest
import torch

from benchmarks import captions, training
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


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from Linux's /proc")
def test_memory_does_not_grow_with_the_number_of_captions(tmp_path):
    """200,000 captions against 20,000: 20 bytes each for its length and its places in the order, 3.6 MB."""
    found = captions.measure(tmp_path, 200_000)
    assert found["rows_mb"] > 250
    # Measured: 12.2 and 9.8.
    assert found["draw_mb"] < 24
    assert found["draw_mb"] - found["draw_mb_tenth"] < 8
    # Measured: 87.4 and 87.3; a block of captions as rows and as columns.
    assert found["write_mb"] < 130
    assert found["write_mb"] - found["write_mb_tenth"] < 24
    # A plain reader of a tenth of them needs more than all of that.
    assert found["read_whole_mb_tenth"] > found["draw_mb"] * 3
