"""A drawing of one object as labelled polygons in its own unit square."""

import math
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]

_ELLIPSE_ANGLES = np.linspace(0.0, 2.0 * math.pi, 20, endpoint=False)


@dataclass(frozen=True)
class Stroke:
    """One filled polygon.

    Attributes:
        part: part name, or None where the pixels belong to the object but to no part.
        points: (N, 2) x and y in the object's frame, x right, y down, about [-1, 1].
        is_detail: True for decoration (an eye): it colours pixels but keeps what they belong to.
    """

    part: str | None
    points: np.ndarray
    is_detail: bool = False


class Sketch:
    """Collect the strokes of one object in painter's order (later strokes lie on top).

    Args:
        rng: source of all jitter.
        shown_parts: the parts that this drawing shows. Strokes of other parts are left out.
        jitter: scale of the shape jitter; 1 is the default look.
    """

    def __init__(self, rng: np.random.Generator, shown_parts: frozenset[str], jitter: float = 1.0):
        self.strokes: list[Stroke] = []
        self._rng = rng
        self._shown_parts = shown_parts
        self._jitter = jitter

    def shows(self, part: str) -> bool:
        """Tell whether the drawing shows the part."""
        return part in self._shown_parts

    def near(self, value: float, spread: float = 0.06) -> float:
        """Draw a number from value +- spread, widened by the sketch's jitter."""
        return value + self._jitter * float(self._rng.uniform(-spread, spread))

    def chance(self, probability: float = 0.5) -> bool:
        """Toss a coin."""
        return bool(self._rng.random() < probability)

    def polygon(self, part: str | None, *points: Point, is_detail: bool = False) -> None:
        """Add a polygon whose vertices jitter one by one."""
        array = np.array(points, dtype=np.float64)
        array += self._rng.uniform(-0.025, 0.025, array.shape) * self._jitter
        self._add(part, array, is_detail)

    def box(self, part: str | None, left: float, top: float, right: float, bottom: float) -> None:
        """Add a rectangle (its corners jitter)."""
        self.polygon(part, (left, top), (right, top), (right, bottom), (left, bottom))

    def ellipse(self, part: str | None, center: Point, radii: Point, *, tilt: float = 0.0) -> None:
        """Add an ellipse, turned by `tilt` radians."""
        scale = 1.0 + self._rng.uniform(-0.06, 0.06, 2) * self._jitter
        self._add(part, _ellipse_points(center, np.array(radii) * scale, tilt), False)

    def band(self, part: str | None, *points: Point, width: float) -> None:
        """Add a thick line through the points, as one polygon with mitred joints."""
        self._add(part, _band_points(np.array(points, dtype=np.float64), width), False)

    def dot(self, center: Point, radius: float) -> None:
        """Add a round unlabelled detail (an eye) on top of what is there."""
        self._add(None, _ellipse_points(center, np.array([radius, radius]), 0.0), True)

    def line(self, *points: Point, width: float = 0.05) -> None:
        """Add an unlabelled detail line on top of what is there."""
        self._add(None, _band_points(np.array(points, dtype=np.float64), width), True)

    def _add(self, part: str | None, points: np.ndarray, is_detail: bool) -> None:
        if part is None or part in self._shown_parts:
            self.strokes.append(Stroke(part, points, is_detail))


def _ellipse_points(center: Point, radii: np.ndarray, tilt: float) -> np.ndarray:
    """Return the polygon of an ellipse."""
    x = radii[0] * np.cos(_ELLIPSE_ANGLES)
    y = radii[1] * np.sin(_ELLIPSE_ANGLES)
    cos, sin = math.cos(tilt), math.sin(tilt)
    return np.stack([center[0] + cos * x - sin * y, center[1] + sin * x + cos * y], axis=1)


def _band_points(path: np.ndarray, width: float) -> np.ndarray:
    """Return the outline of a path of some width: along its left side, then back on its right."""
    along = np.diff(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    normals = np.stack([-along[:, 1], along[:, 0]], axis=1)
    joints = np.concatenate([normals[:1], (normals[:-1] + normals[1:]) / 2, normals[-1:]])
    # A mitre reaches further than half the width; its length grows as the mean normal shrinks.
    joints *= width / 2 / np.maximum((joints**2).sum(axis=1, keepdims=True), 0.25)
    return np.concatenate([path + joints, (path - joints)[::-1]])
