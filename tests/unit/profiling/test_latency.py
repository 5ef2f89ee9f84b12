import statistics

import numpy as np
import pytest
import torch

from calico.profiling import latency
from calico.profiling.latency import Timing, mean_timing, peak_memory_gb, reset_peak_memory, time_pair
from tests.unit.models.small import FRAME_PX, prompt_batch, prompts, randomise, small_model


@pytest.fixture
def clock(monkeypatch):
    """Let one second pass between two looks at the clock."""
    ticks = iter(range(10_000))
    monkeypatch.setattr(latency, "_now", lambda device: float(next(ticks)))


@pytest.fixture
def model():
    return randomise(small_model())


@pytest.fixture
def batch(model):
    generator = torch.Generator().manual_seed(0)
    batch = prompt_batch(prompts(model, [2]), [2])
    for name in ("global", "semantic", "grounding"):
        batch.views[name] = torch.randn(2, 3, FRAME_PX, FRAME_PX, generator=generator)
    return batch


def test_every_phase_is_timed(model, batch, clock):
    timing = time_pair(model, batch, max_new_tokens=6, num_repeats=3)
    assert (timing.encode, timing.prefill, timing.generate, timing.masks) == (1.0, 1.0, 1.0, 1.0)
    assert timing.total == timing.as_dict()["total"] == 3.0


def test_a_token_costs_what_lies_between_prefill_and_end(model, batch, monkeypatch):
    # Encoding takes 1 second, the prefill 2, the whole answer 12, the masks 4.
    times = iter([0.0, 1.0, 3.0, 15.0, 19.0])
    monkeypatch.setattr(latency, "_now", lambda device: next(times))
    (answer,) = model.generate(batch, model.encode_images(batch.views), max_new_tokens=6)
    assert not answer.is_complete
    timing = time_pair(model, batch, max_new_tokens=6, num_repeats=1)
    assert (timing.encode, timing.prefill, timing.generate, timing.masks) == (1.0, 2.0, 12.0, 4.0)
    assert timing.per_token == (12.0 - 2.0) / 5
    assert timing.total == 17.0


def test_an_answer_of_its_end_alone_has_no_further_token(model, batch, clock):
    (answer,) = model.generate(batch, model.encode_images(batch.views), max_new_tokens=1)
    model.eos_id = answer.ids[0]
    timing = time_pair(model, batch, max_new_tokens=6, num_repeats=1)
    assert (timing.num_tokens, timing.per_token) == (0, 0.0)


def test_the_answer_is_the_models(model, batch):
    (answer,) = model.generate(batch, model.encode_images(batch.views), max_new_tokens=6)
    timing = time_pair(model, batch, max_new_tokens=6, num_repeats=1)
    assert (timing.num_tokens, timing.num_masks) == (len(answer.ids), len(answer.seg_states_MD))


def test_median_of_the_repeats(model, batch, monkeypatch):
    # Encoding takes 1, 9 and 2 seconds, everything else none.
    times = iter(np.cumsum([0, 1, 0, 0, 0, 0, 9, 0, 0, 0, 0, 2, 0, 0, 0]).tolist())
    monkeypatch.setattr(latency, "_now", lambda device: next(times))
    timing = time_pair(model, batch, max_new_tokens=2, num_repeats=3)
    assert timing.encode == statistics.median([1, 9, 2])
    assert timing.generate == timing.masks == 0


def test_mean_over_pairs():
    names = ("encode", "prefill", "per_token", "generate", "masks", "num_tokens", "num_masks")
    first, second, mean = (
        Timing(**dict(zip(names, values, strict=True)))
        for values in (
            (1, 1, 0.1, 2, 3, 10, 1),
            (3, 2, 0.3, 4, 5, 20, 2),
            (2, 1.5, 0.2, 3, 4, 15, 1.5),
        )
    )
    assert mean_timing([first, second]) == mean


def test_peak_memory_sees_what_was_allocated_since_the_reset():
    device = torch.device("cpu")
    reset_peak_memory(device)
    before = peak_memory_gb(device)
    block = np.ones(40_000_000, dtype=np.uint8)
    del block
    # Pages of the interpreter come and go; the block alone is 0.04 GB.
    assert peak_memory_gb(device) - before > 0.03
