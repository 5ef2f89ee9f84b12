"""One small synthetic data set for all tests of this folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calico.config import SynthesizeSection
from calico.data.synthetic.catalogue import SOURCES
from calico.data.synthetic.generate import scene_generator, synthesize
from calico.data.synthetic.renderer import Scene, render_scene

SEED = 5
NUM_IMAGES = {"train": 14, "val": 3, "test": 5}
NUM_GRAND = 6


def make_section(**changes: Any) -> SynthesizeSection:
    values = {
        "seed": SEED,
        "difficulty": 0.3,
        "image_size_px": 128,
        "num_workers": 1,
        "num_images": {source: dict(NUM_IMAGES) for source in SOURCES},
        "num_grand_images": NUM_GRAND,
    }
    return SynthesizeSection.model_validate({**values, **changes})


@pytest.fixture(scope="session")
def synthetic_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small data set."""
    path = tmp_path_factory.mktemp("synthetic")
    synthesize(make_section(), path, seed=SEED)
    return path


@pytest.fixture
def expected_scene() -> Callable[[str, str, int], Scene]:
    """Render again the scene that a file was written from."""

    def render(source: str, purpose: str, index: int) -> Scene:
        rng = scene_generator(SEED, purpose, index)
        return render_scene(rng, source=source, difficulty=0.3)

    return render


@pytest.fixture
def section() -> Callable[..., SynthesizeSection]:
    """Make a section with some values changed."""
    return make_section


@pytest.fixture
def num_images() -> dict[str, int]:
    """Scenes of each split in `synthetic_path`."""
    return NUM_IMAGES


@pytest.fixture
def num_grand() -> int:
    """GranD images in `synthetic_path`."""
    return NUM_GRAND
