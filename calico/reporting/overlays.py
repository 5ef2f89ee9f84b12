"""Draw masks over images: one colour a name, the same in every image of a pair.

"dog's head" and "cat's head" are both a head and share its colour. Colours come from the name alone as long
as they do not collide within a picture, so a head looks the same all over a report.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from calico.errors import DataError

Colour = tuple[int, int, int]
Mask = tuple[str, np.ndarray]
Box = tuple[int, int, int, int]

# Okabe and Ito's colours without black, and two dark ones of Tol's "muted" scheme: distinct for every common
# kind of colour vision.
PALETTE: tuple[Colour, ...] = (
    (0, 114, 178),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (230, 159, 0),
    (213, 94, 0),
    (204, 121, 167),
    (136, 34, 85),
    (51, 34, 136),
)
_WHITE: Colour = (255, 255, 255)
_INK: Colour = (28, 30, 33)
_GREY: Colour = (96, 100, 106)
_FILL_OPACITY = 0.6
_MARGIN_PX = 16


def part_name(label: str) -> str:
    """Return what a label shares over objects: "head" for "dog's head", "dog" for "dog"."""
    return label.partition("'s ")[2] or label


def assign_colours(labels: Iterable[str]) -> dict[str, Colour]:
    """Choose a colour for each name; names beyond the palette's size repeat colours.

    Args:
        labels: labels of all images that are shown together, in any order and with repetitions.

    Returns:
        Colour by `part_name`, sorted by name; equal inputs give equal colours on every machine.
    """
    taken: set[int] = set()
    colours = {}
    for name in sorted({part_name(label) for label in labels}):
        if len(taken) == len(PALETTE):
            taken.clear()
        slot = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % len(PALETTE)
        while slot in taken:
            slot = (slot + 1) % len(PALETTE)
        taken.add(slot)
        colours[name] = PALETTE[slot]
    return colours


def fit_scale(height: int, width: int, side_px: int) -> float:
    """Return the scale that makes an image's longest side `side_px`."""
    return side_px / max(height, width)


def draw_overlay(
    image_HWC: np.ndarray,
    masks: Sequence[Mask],
    *,
    scale: float = 1.0,
    colours: Mapping[str, Colour] | None = None,
    has_tags: bool = True,
    tags: Sequence[str] = (),
) -> np.ndarray:
    """Draw labelled masks over an image.

    Args:
        image_HWC: uint8 RGB.
        masks: (label, boolean mask of shape (H, W)); may overlap; empty masks draw nothing.
        scale: size of the result over the size of the image.
        colours: from `assign_colours` over all images shown together; of these masks alone if None.
        has_tags: write each mask's name on it.
        tags: what to write instead, one a mask, or none.

    Returns:
        uint8 RGB of shape (round(H * scale), round(W * scale), 3).

    Raises:
        DataError: a mask's size is not the image's.
    """
    height, width = image_HWC.shape[:2]
    for label, mask_HW in masks:
        if mask_HW.shape != (height, width):
            raise DataError(
                f"mask of '{label}' has size {mask_HW.shape}, but its image has {(height, width)}. "
                "Masks are stored at the size of the image file."
            )
    colours = colours or assign_colours(label for label, _ in masks)
    size_px = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas_HWC = np.asarray(
        Image.fromarray(image_HWC).resize(size_px, Image.Resampling.BICUBIC), dtype=np.float32
    )
    line_px = max(1, round(max(size_px) / 256))
    # Large masks first: a small mask inside a large one stays visible.
    places = sorted(
        (place for place, (_, mask_HW) in enumerate(masks) if mask_HW.any()),
        key=lambda place: -int(masks[place][1].sum()),
    )
    ordered = [masks[place] for place in places]
    coverages = [_coverage(mask_HW, size_px, scale) for _, mask_HW in ordered]
    for (label, _), coverage_HW in zip(ordered, coverages, strict=True):
        canvas_HWC = _tint(canvas_HWC, colours[part_name(label)], coverage_HW)
    for (label, _), coverage_HW in zip(ordered, coverages, strict=True):
        line_HW = _dilate(coverage_HW, line_px)
        canvas_HWC = _blend(canvas_HWC, _WHITE, (_dilate(line_HW, 1) - coverage_HW) * 0.8)
        canvas_HWC = _blend(canvas_HWC, colours[part_name(label)], line_HW - coverage_HW)
    picture = Image.fromarray(np.clip(np.rint(canvas_HWC), 0, 255).astype(np.uint8))
    if has_tags:
        words = [tags[place] if tags else part_name(masks[place][0]) for place in places]
        _draw_tags(picture, words, ordered, colours)
    return np.asarray(picture)


def side_by_side(
    panels: Sequence[np.ndarray],
    *,
    titles: Sequence[str] = (),
    colours: Mapping[str, Colour] | None = None,
    text: str = "",
    num_columns: int | None = None,
) -> np.ndarray:
    """Put pictures beside each other, with titles above, the names' colours and a text below.

    Args:
        panels: uint8 RGB pictures of any sizes.
        titles: one a panel, or none.
        colours: the legend, in order.
        text: each of its lines wrapped to the width.
        num_columns: panels in a row; all in one row if None.

    Returns:
        uint8 RGB.
    """
    num_columns = num_columns or len(panels)
    cell_width = max(panel.shape[1] for panel in panels)
    size_px = max(14, 8 + cell_width // 48)
    font = ImageFont.load_default(size_px)
    title_px = round(size_px * 1.7) if titles else 0
    rows = [panels[start : start + num_columns] for start in range(0, len(panels), num_columns)]
    row_heights = [title_px + max(panel.shape[0] for panel in row) + _MARGIN_PX for row in rows]
    width = num_columns * (cell_width + _MARGIN_PX) + _MARGIN_PX
    footer = _draw_footer(width, font, colours or {}, text)
    canvas = Image.new("RGB", (width, _MARGIN_PX + sum(row_heights) + footer.height), _WHITE)
    pen = ImageDraw.Draw(canvas)
    for index, panel in enumerate(panels):
        row, column = divmod(index, num_columns)
        left, top = _MARGIN_PX + column * (cell_width + _MARGIN_PX), _MARGIN_PX + sum(row_heights[:row])
        if titles:
            pen.text((left, top), titles[index], fill=_GREY, font=font)
        canvas.paste(Image.fromarray(panel), (left, top + title_px))
    canvas.paste(footer, (0, canvas.height - footer.height))
    return np.asarray(canvas)


def _coverage(mask_HW: np.ndarray, size_px: tuple[int, int], scale: float) -> np.ndarray:
    """Resize a mask to float coverage in [0, 1] with an edge about one pixel soft, without stairs."""
    image = Image.fromarray(mask_HW.astype(np.uint8) * 255).resize(size_px, Image.Resampling.BICUBIC)
    if scale > 1:
        image = image.filter(ImageFilter.GaussianBlur(0.45 * scale))
    soft_HW = np.asarray(image, dtype=np.float32) / 255
    return np.clip((soft_HW - 0.5) * max(scale, 1.0) + 0.5, 0, 1)


def _dilate(coverage_HW: np.ndarray, radius_px: int) -> np.ndarray:
    """Return the maximum over a square of `radius_px` around each pixel."""
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (radius_px, radius_px)
        padded = np.pad(coverage_HW, padding)
        length = coverage_HW.shape[axis]
        shifts = [np.take(padded, range(start, start + length), axis) for start in range(2 * radius_px + 1)]
        coverage_HW = np.maximum.reduce(shifts)
    return coverage_HW


def _blend(canvas_HWC: np.ndarray, colour: Colour, opacity_HW: np.ndarray) -> np.ndarray:
    opacity_HW1 = opacity_HW[..., None]
    return canvas_HWC * (1 - opacity_HW1) + np.asarray(colour, dtype=np.float32) * opacity_HW1


def _tint(canvas_HWC: np.ndarray, colour: Colour, coverage_HW: np.ndarray) -> np.ndarray:
    """Lay a translucent colour over the picture's brightness; over its colours it would become another."""
    brightness_HW1 = canvas_HWC.mean(axis=2, keepdims=True)
    tinted_HWC = brightness_HW1 * (1 - _FILL_OPACITY) + np.asarray(colour, dtype=np.float32) * _FILL_OPACITY
    return canvas_HWC + (tinted_HWC - canvas_HWC) * coverage_HW[..., None]


def _draw_tags(
    picture: Image.Image, tags: Sequence[str], masks: Sequence[Mask], colours: Mapping[str, Colour]
) -> None:
    """Write each tag on or beside its mask, without covering another one where there is room."""
    font = ImageFont.load_default(max(9, 5 + max(picture.size) // 32))
    pen = ImageDraw.Draw(picture)
    taken: list[Box] = []
    for tag, (label, mask_HW) in reversed(list(zip(tags, masks, strict=True))):
        colour = colours[part_name(label)]
        scale = picture.width / mask_HW.shape[1]
        left, top, right, bottom = pen.textbbox((0, 0), tag, font=font)
        tag_size = (round(right - left) + 8, round(bottom - top) + 8)
        box = _place(_anchor_boxes(mask_HW, scale, tag_size), picture.size, taken)
        taken.append(box)
        pen.rounded_rectangle(box, radius=4, fill=colour, outline=_WHITE)
        pen.text((box[0] + 4 - left, box[1] + 4 - top), tag, fill=_text_colour(colour), font=font)


def _anchor_boxes(mask_HW: np.ndarray, scale: float, size: tuple[int, int]) -> list[Box]:
    """Return places for a tag of `size` (width, height), best first: in the mask, else around its box."""
    rows, columns = np.nonzero(mask_HW)
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    center_x, center_y = columns[nearest] * scale, rows[nearest] * scale
    left, right = columns.min() * scale, (columns.max() + 1) * scale
    top, bottom = rows.min() * scale, (rows.max() + 1) * scale
    inside = (center_x, center_y)
    around = [
        (center_x, top - size[1] / 2 - 4),
        (center_x, bottom + size[1] / 2 + 4),
        (right + size[0] / 2 + 4, center_y),
        (left - size[0] / 2 - 4, center_y),
    ]
    is_roomy = right - left > 1.6 * size[0] and bottom - top > 1.6 * size[1]
    centers = [inside, *around] if is_roomy else [*around, inside]
    return [
        (round(x - size[0] / 2), round(y - size[1] / 2), round(x + size[0] / 2), round(y + size[1] / 2))
        for x, y in centers
    ]


def _place(candidates: Sequence[Box], canvas_size: tuple[int, int], taken: Sequence[Box]) -> Box:
    """Return the first candidate that lies on the canvas and covers no other tag, else one moved onto it."""
    moved = []
    for left, top, right, bottom in candidates:
        shift_x = max(0, -left) - max(0, right - (canvas_size[0] - 1))
        shift_y = max(0, -top) - max(0, bottom - (canvas_size[1] - 1))
        box = (left + shift_x, top + shift_y, right + shift_x, bottom + shift_y)
        moved.append((abs(shift_x) + abs(shift_y), box))
    free = [(shift, box) for shift, box in moved if not any(_overlaps(box, other) for other in taken)]
    choices = free or moved
    return next((box for shift, box in choices if shift == 0), choices[0][1])


def _overlaps(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _text_colour(background: Colour) -> Colour:
    """Return black or white, whichever reads better on `background` (relative luminance)."""
    red, green, blue = background
    return _INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else _WHITE


def _draw_footer(
    width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, colours: Mapping[str, Colour], text: str
) -> Image.Image:
    """Draw the legend and the wrapped text on a strip of the given width."""
    line_px = round(font.getbbox("Ag")[3] * 1.5)
    legend = _flow([(name, line_px + font.getlength(name) + _MARGIN_PX) for name in colours], width)
    lines = [
        " ".join(words)
        for line in text.splitlines()
        for words in _flow([(word, font.getlength(word + " ")) for word in line.split()], width)
    ]
    strip = Image.new("RGB", (width, (len(legend) + len(lines)) * line_px + _MARGIN_PX), _WHITE)
    pen = ImageDraw.Draw(strip)
    for row, names in enumerate(legend):
        left = _MARGIN_PX
        for name in names:
            top = row * line_px
            pen.rounded_rectangle(
                (left, top + 2, left + line_px - 10, top + line_px - 8), 4, fill=colours[name]
            )
            pen.text((left + line_px - 4, top), name, fill=_INK, font=font)
            left += round(line_px + font.getlength(name) + _MARGIN_PX)
    for row, line in enumerate(lines, start=len(legend)):
        pen.text((_MARGIN_PX, row * line_px), line, fill=_GREY, font=font)
    return strip


def _flow(words: Sequence[tuple[str, float]], width: int) -> list[list[str]]:
    """Break (word, width) into lines no wider than `width` minus the margins; a longer word gets a line."""
    lines: list[list[str]] = []
    used = 0.0
    for word, word_width in words:
        if not lines or used + word_width > width - 2 * _MARGIN_PX:
            lines.append([])
            used = 0.0
        lines[-1].append(word)
        used += word_width
    return lines
