"""The picture of a scene and, in step with it, the region number of every pixel."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from calico.data.synthetic.sketch import Stroke


@dataclass
class Canvas:
    """A picture under construction.

    Attributes:
        rng: source of every choice.
        image: what a camera would see.
        regions: number of the region that owns the pixel; 0 = no object.
        background_rgb: mean colour behind the objects.
        outline_rgb: colour of all outlines, or None for none.
        contrast: how far (L1) part colours try to stay from the background.
    """

    rng: np.random.Generator
    image: Image.Image
    regions: Image.Image
    background_rgb: np.ndarray
    outline_rgb: tuple[int, ...] | None
    contrast: float


def start_canvas(rng: np.random.Generator, difficulty: float, size_px: int) -> Canvas:
    """Paint a gradient, now and then with stripes or a horizon."""
    corners = rng.integers(0, 256, (2, 3)).astype(np.float32)
    if rng.random() < 0.5:
        corners[1] = np.clip(corners[0] + rng.integers(-70, 71, 3), 0, 255)
    angle = rng.uniform(0, 2 * math.pi)
    axis = np.linspace(-0.5, 0.5, size_px, dtype=np.float32)
    ramp = axis[:, None] * math.sin(angle) + axis[None, :] * math.cos(angle)
    style = rng.random()
    if style < 0.15 + 0.25 * difficulty:
        ramp = ramp + 0.15 * np.sign(np.sin(ramp * rng.uniform(15, 50))) * rng.uniform(0.3, 1.0)
    elif style < 0.3 + 0.25 * difficulty:
        ramp = np.where(axis[:, None] > rng.uniform(-0.2, 0.3), 0.4, -0.4) + 0.2 * ramp
    weight = np.clip(ramp + 0.5, 0.0, 1.0)[..., None].astype(np.float32)
    pixels = corners[0] + (corners[1] - corners[0]) * weight
    outline = None
    if rng.random() < 0.7:
        outline = tuple(int(v) for v in rng.integers(0, 60, 3))
        if rng.random() < 0.2:
            outline = tuple(255 - v for v in outline)
    return Canvas(
        rng=rng,
        image=Image.fromarray(pixels.astype(np.uint8)),
        regions=Image.new("L", (size_px, size_px), 0),
        background_rgb=corners.mean(axis=0),
        outline_rgb=outline,
        contrast=90.0 * (1.0 - difficulty),
    )


def draw_strokes(
    canvas: Canvas,
    strokes: list[Stroke],
    numbers: dict[str | None, int],
    pose: tuple[np.ndarray, np.ndarray],
) -> None:
    """Draw an object's strokes into the picture and, except details, into the regions."""
    colours = _choose_colours(canvas, numbers)
    detail_rgb = tuple(int(v) for v in canvas.rng.choice((0, 255)) * np.ones(3, dtype=int))
    half = canvas.image.width / 2
    draw_image, draw_regions = ImageDraw.Draw(canvas.image), ImageDraw.Draw(canvas.regions)
    matrix, center = pose
    for stroke in strokes:
        points = (stroke.points @ matrix.T + center) * half + (half - 0.5)
        xy = points.ravel().tolist()
        if stroke.is_detail:
            draw_image.polygon(xy, fill=detail_rgb)
            continue
        draw_image.polygon(xy, fill=colours[stroke.part], outline=canvas.outline_rgb)
        draw_regions.polygon(xy, fill=numbers[stroke.part], outline=numbers[stroke.part])


def _choose_colours(canvas: Canvas, numbers: dict[str | None, int]) -> dict[str | None, tuple[int, ...]]:
    """Choose a random colour a part, half of the time near a base colour of the object."""
    rng = canvas.rng
    base = rng.integers(0, 256, 3) if rng.random() < 0.5 else None
    colours = {}
    for name in numbers:
        for _ in range(6):
            rgb = rng.integers(0, 256, 3)
            if base is not None:
                rgb = np.clip(base + rng.integers(-70, 71, 3), 0, 255)
            if np.abs(rgb - canvas.background_rgb).sum() >= canvas.contrast:
                break
        colours[name] = tuple(int(v) for v in rgb)
    return colours


def draw_blob(canvas: Canvas, radius: float) -> None:
    """Draw a random polygon that belongs to no object; it hides what lies under it."""
    rng = canvas.rng
    num_points = int(rng.integers(3, 9))
    angles = np.sort(rng.uniform(0, 2 * math.pi, num_points))
    lengths = radius * rng.uniform(0.6, 1.2, num_points)
    points = np.stack([np.cos(angles) * lengths, np.sin(angles) * lengths], axis=1)
    half = canvas.image.width / 2
    xy = ((points + rng.uniform(-1, 1, 2)) * half + half).ravel().tolist()
    rgb = tuple(int(v) for v in rng.integers(0, 256, 3))
    ImageDraw.Draw(canvas.image).polygon(xy, fill=rgb, outline=canvas.outline_rgb)
    ImageDraw.Draw(canvas.regions).polygon(xy, fill=0, outline=0)


def finish_image(canvas: Canvas, regions_HW: np.ndarray, num_regions: int, difficulty: float) -> np.ndarray:
    """Add part texture, blur and noise."""
    rng = canvas.rng
    image = canvas.image
    if rng.random() < 0.5 * difficulty:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.9))))
    pixels = np.asarray(image).astype(np.float32)
    size_px = pixels.shape[0]
    for region in range(1, num_regions):
        if rng.random() < 0.12:
            pattern = _texture(rng, size_px) & (regions_HW == region)
            pixels[pattern] += rng.uniform(-60, 60)
    noise_sd = rng.uniform(0.0, 3.0 + 10.0 * difficulty)
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    return np.clip(pixels + noise * np.float32(noise_sd), 0, 255).astype(np.uint8)


def _texture(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Return an (H, W) pattern of stripes or dots."""
    period = rng.uniform(0.05, 0.1) * size_px
    angle = rng.uniform(0, math.pi)
    axis = np.arange(size_px, dtype=np.float32) * (2 * math.pi / period)
    first = axis[:, None] * math.sin(angle) + axis[None, :] * math.cos(angle)
    if rng.random() < 0.6:
        return np.sin(first) > 0
    second = axis[:, None] * math.cos(angle) - axis[None, :] * math.sin(angle)
    return np.sin(first) * np.sin(second) > 0.2
