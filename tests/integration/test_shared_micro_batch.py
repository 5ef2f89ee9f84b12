"""Processes that share a micro-batch train as one does, also when one of them has no [SEG] at all."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
SCRIPT = "tests.integration.shared_micro_batch"


def run(path: Path, *launcher: str) -> dict[str, Any]:
    subprocess.run(
        [sys.executable, *launcher, "-m", SCRIPT, str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=180,
    )
    return json.loads(path.read_text())


def test_a_shared_micro_batch_gives_the_losses_and_weights_of_a_whole_one(tmp_path: Path) -> None:
    one = run(tmp_path / "one.json")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    two = run(tmp_path / "two.json", *launcher)

    # Losses and norms; 11 tokens and 3 masks are in one part, 1 token and no mask in the other.
    assert np.ravel(two["losses"]) == pytest.approx(np.ravel(one["losses"]), rel=1e-5)
    # Measured worst case 6e-6, of steps of 3e-3: AdamW divides a gradient by its own size, however small.
    worst = max(
        float(np.abs(np.subtract(two["weights"][name], one["weights"][name])).max())
        for name in one["weights"]
    )
    assert worst < 1e-4
