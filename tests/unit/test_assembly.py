"""What assembling models leaves behind in the process."""

import torch

from calico.assembly import torch_settings
from calico.config import load_config

DENORMAL = 1e-40


def test_settings_of_torch_end_with_the_block():
    runtime = load_config("tiny").runtime.model_copy(update={"num_threads": 1})
    num_threads = torch.get_num_threads()
    number = torch.tensor(DENORMAL)

    with torch_settings(runtime):
        assert torch.get_num_threads() == 1
        assert (number * 0.5).item() == 0.0

    assert torch.get_num_threads() == num_threads
    assert (number * 0.5).item() > 0.0
