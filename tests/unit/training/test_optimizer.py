import pytest
import torch

from calico.config import load_config
from calico.training.optimizer import build_optimizer, build_scheduler, rate_factor


def test_rate_rises_to_one_then_falls_to_zero():
    factors = [rate_factor(step, 4, 12) for step in range(13)]
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0]


def test_rate_without_warmup_starts_at_the_peak():
    assert rate_factor(0, 0, 10) == 1.0


@pytest.mark.parametrize("warmup_steps", [10, 20])
def test_warmup_as_long_as_the_run_is_finite(warmup_steps):
    assert all(0 < rate_factor(step, warmup_steps, 10) <= 1 for step in range(10))


def test_only_trainable_parameters_reach_adamw():
    section = load_config("tiny").finetune
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    optimizer = build_optimizer(model.parameters(), section)
    (group,) = optimizer.param_groups
    assert [id(parameter) for parameter in group["params"]] == [id(model.weight)]
    assert group["betas"] == (0.9, 0.95)
    scheduler = build_scheduler(optimizer, section)
    assert scheduler.get_last_lr() == [pytest.approx(section.learning_rate / section.warmup_steps)]
