import os
import subprocess
import sys

import pytest
import torch

from calico.config import load_config
from calico.errors import CheckpointError, ConfigError
from calico.training.engine import Engine, share_of_process
from calico.training.optimizer import rate_factor

NUM_STEPS = 6
SAMPLES_XY = torch.randn(NUM_STEPS, 2, 8, 5, generator=torch.Generator().manual_seed(0))


def make_section(**changes):
    values = {"num_steps": NUM_STEPS, "warmup_steps": 2, "accumulation": 2, "max_grad_norm": 0.5, **changes}
    return load_config("tiny").finetune.model_copy(update=values)


def make_runtime(**changes):
    return load_config("tiny").runtime.model_copy(update=changes)


def make_model():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    model[0].bias.requires_grad_(False)
    return model


def micro_batch_loss(model, step, micro_batch):
    xy = SAMPLES_XY[step, micro_batch]
    return (model(xy[:, :4].to(next(model.parameters()).dtype)).float()[:, 0] - xy[:, 4]).square().mean()


def train_with_engine(section, runtime):
    model = make_model()
    engine = Engine(model, section, runtime)
    reports = []
    for step in range(NUM_STEPS):
        for micro_batch in range(2):
            engine.backward(micro_batch_loss_of(engine, step, micro_batch))
            report = engine.end_micro_batch()
        reports.append(report)
    return model, reports


def micro_batch_loss_of(engine, step, micro_batch):
    xy = SAMPLES_XY[step, micro_batch]
    predicted = engine(xy[:, :4].to(next(engine.module.parameters()).dtype)).float()
    return (predicted[:, 0] - xy[:, 4]).square().mean()


def train_with_torch(section):
    """The oracle: the same steps written with nothing but torch."""
    model = make_model()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, betas=tuple(section.betas), weight_decay=0.0)
    norms = []
    for step in range(NUM_STEPS):
        optimizer.param_groups[0]["lr"] = section.learning_rate * rate_factor(step, 2, NUM_STEPS)
        sum(micro_batch_loss(model, step, micro_batch) / 2 for micro_batch in range(2)).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(trainable, section.max_grad_norm)))
        optimizer.step()
        optimizer.zero_grad()
    return model, norms


@pytest.mark.parametrize("zero_stage", [0, 1, 2])
def test_fp32_training_equals_plain_torch(zero_stage):
    section = make_section(zero_stage=zero_stage)
    expected, norms = train_with_torch(section)
    model, reports = train_with_engine(section, make_runtime())
    # Measured worst differences over the three stages: weights 6e-8, norms 1e-7 relative.
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), parameter, atol=1e-6, rtol=0)
    assert [report.grad_norm for report in reports] == pytest.approx(norms, rel=1e-5)
    rates = [section.learning_rate * rate_factor(step, 2, NUM_STEPS) for step in range(NUM_STEPS)]
    assert [report.learning_rate for report in reports] == pytest.approx(rates)


@pytest.mark.parametrize("zero_stage", [0, 2])
def test_bfloat16_training_follows_fp32(zero_stage):
    section = make_section(zero_stage=zero_stage)
    expected, _ = train_with_torch(section)
    model, _ = train_with_engine(section, make_runtime(dtype="bfloat16"))
    for name, parameter in expected.named_parameters():
        assert model.get_parameter(name).dtype == torch.bfloat16
        # bfloat16 keeps 8 bits: half a step at 0.5 is 1e-3. Measured worst: 4e-3.
        torch.testing.assert_close(model.get_parameter(name).float(), parameter, atol=1e-2, rtol=0)


def test_frozen_parameters_keep_their_bits():
    before = make_model()[0].bias.clone()
    model, _ = train_with_engine(make_section(), make_runtime())
    assert torch.equal(model[0].bias, before)


def test_one_process_needs_neither_launcher_nor_compiler_nor_network_port(tmp_path):
    script = (
        "from tests.unit.training.test_engine import *\n"
        "model, reports = train_with_engine(make_section(), make_runtime())\n"
        "print(len(reports), 'MASTER_PORT' in os.environ)\n"
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    }
    environment |= {"CXX": "/nowhere/c++", "CC": "/nowhere/cc", "TORCH_EXTENSIONS_DIR": str(tmp_path)}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert output.strip().endswith(f"{NUM_STEPS} False")
    assert not list(tmp_path.iterdir())


def test_shared_memory_operation_is_still_found_by_its_name():
    """The engine turns DeepSpeed's CPU extension off by name; a new DeepSpeed may rename it."""
    from deepspeed.ops.op_builder.cpu.comm import ShareMemCommBuilder

    assert ShareMemCommBuilder.NAME == "deepspeed_shm_comm"


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "world_size", "share"),
    [
        (4, 4, 1, (4, 4)),
        (4, 4, 2, (4, 2)),
        (4, 4, 4, (4, 1)),
        (4, 4, 8, (2, 1)),
        (4, 4, 16, (1, 1)),
        (12, 1, 3, (4, 1)),
    ],
)
def test_processes_share_the_batch(batch_size, accumulation, world_size, share):
    section = make_section(batch_size=batch_size, accumulation=accumulation)
    assert share_of_process(section, world_size) == share


@pytest.mark.parametrize("world_size", [3, 6, 32])
def test_a_batch_that_cannot_be_shared_is_refused(world_size):
    with pytest.raises(ConfigError, match=f"{world_size} processes cannot share 4 micro-batches of 4 pairs"):
        share_of_process(make_section(batch_size=4, accumulation=4), world_size)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_missing_cuda_device_is_one_sentence():
    with pytest.raises(ConfigError, match="finds no CUDA device"):
        Engine(make_model(), make_section(), make_runtime(device="cuda"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("zero_stage", [0, 1, 2])
def test_a_loaded_state_trains_on_to_the_same_bits(zero_stage, dtype):
    section, runtime = make_section(zero_stage=zero_stage), make_runtime(dtype=dtype)
    whole, reports = train_with_engine(section, runtime)
    first = Engine(make_model(), section, runtime)
    for step in range(2):
        run_step(first, step)
    state = {name: tensor.detach().clone() for name, tensor in first.state().items()}

    second = Engine(make_model(), section, runtime)
    second.load_state(state, 2)
    resumed = [run_step(second, step) for step in range(2, NUM_STEPS)]

    assert resumed == reports[2:]
    for name, parameter in whole.named_parameters():
        assert torch.equal(second.module.get_parameter(name), parameter), name


def test_a_state_of_another_model_is_refused():
    engine = Engine(make_model(), make_section(), make_runtime())
    state = {name: tensor.detach()[..., :1] for name, tensor in engine.state().items()}
    with pytest.raises(
        CheckpointError, match=r"2 of 3 tensors are missing or of another shape \(trained/0.w"
    ):
        engine.load_state(state, 1)


def run_step(engine, step):
    for micro_batch in range(2):
        engine.backward(micro_batch_loss_of(engine, step, micro_batch))
        report = engine.end_micro_batch()
    return report
