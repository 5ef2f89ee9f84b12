"""Real annotated photographs; they may not be distributed, so most checkouts have none."""

from pathlib import Path

import pytest

REAL_PATH = Path(__file__).parents[3].parent / "shared" / "real"


@pytest.fixture
def real_path() -> Path:
    """Return the folder of real photographs with annotations."""
    if not REAL_PATH.is_dir():
        pytest.skip("the annotated photographs are not beside the checkout")
    return REAL_PATH
