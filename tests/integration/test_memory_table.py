"""The table of docs/training.md is what the planner says."""

import re
from pathlib import Path

import pytest

from calico.config import load_config
from calico.training.plan import Planner, plan_table

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
GPU_SIZES_GB = (24, 48, 80, 141)


def test_the_table_is_the_planner_s() -> None:
    config = load_config("paper")
    found = re.search(
        r"<!-- plan: paper calico -->\n(.*)\n<!-- end of plan -->", PAGE.read_text(), flags=re.DOTALL
    )
    assert found
    planned = plan_table(Planner(config, "calico"), config.finetune, GPU_SIZES_GB)
    assert found[1].strip() == planned, f"write this into {PAGE.name}:\n{planned}"
