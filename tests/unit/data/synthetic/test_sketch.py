"""A sketch keeps strokes in order and leaves hidden parts out."""

import numpy as np
import pytest

from calico.data.synthetic.catalogue import CATALOGUE
from calico.data.synthetic.shapes import SHAPES
from calico.data.synthetic.sketch import Sketch


def make_sketch(*parts: str, jitter: float = 0.0) -> Sketch:
    return Sketch(np.random.default_rng(0), frozenset(parts), jitter=jitter)


def test_hidden_parts_leave_no_stroke():
    sketch = make_sketch("body")
    sketch.box("body", -1, -1, 1, 1)
    sketch.box("tail", -1, -1, 1, 1)
    sketch.box(None, -1, -1, 0, 0)
    assert [stroke.part for stroke in sketch.strokes] == ["body", None]


def test_box_without_jitter_is_exact():
    sketch = make_sketch("body")
    sketch.box("body", -1, -0.5, 1, 0.5)
    assert sketch.strokes[0].points.tolist() == [[-1, -0.5], [1, -0.5], [1, 0.5], [-1, 0.5]]


def test_straight_band_has_its_width():
    sketch = make_sketch("handle")
    sketch.band("handle", (0.0, 0.0), (0.5, 0.0), (1.0, 0.0), width=0.2)
    ys = sketch.strokes[0].points[:, 1]
    assert np.allclose(np.abs(ys), 0.1)


def test_details_own_no_pixels():
    sketch = make_sketch("head")
    sketch.dot((0.0, 0.0), 0.1)
    sketch.line((0.0, 0.0), (1.0, 0.0))
    assert all(stroke.is_detail for stroke in sketch.strokes)


def test_every_category_has_a_shape():
    assert {s: set(shapes) for s, shapes in SHAPES.items()} == {
        s: set(categories) for s, categories in CATALOGUE.items()
    }


@pytest.mark.parametrize(
    ("source", "category"), [(s, c) for s, categories in CATALOGUE.items() for c in categories]
)
def test_shape_draws_exactly_its_parts(source, category):
    declared = {spec.name for spec in CATALOGUE[source][category]}
    sketch = make_sketch(*declared, "no such part", jitter=1.0)
    SHAPES[source][category](sketch)
    drawn = {s.part for s in sketch.strokes if s.part is not None}
    assert drawn == declared
    points = np.concatenate([stroke.points for stroke in sketch.strokes])
    # The largest reach in 200 draws of every shape is 1.065 (a car's bumper).
    assert np.abs(points).max() < 1.1
