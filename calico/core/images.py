"""Decode image files: one decoder for the whole project, so that masks and pixels cannot drift apart.

EXIF orientation is ignored: the annotations of the published data sets were drawn on the stored pixels. Only
`read_photograph` applies it.
"""

import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from calico.errors import DataError

MAX_PIXELS = 64_000_000
# Not all that Pillow knows: for EPS, say, it would start Ghostscript on a file of others.
_PHOTOGRAPHS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# What is not PNG has lost ids on the way, as JPEG does, or holds other numbers than ids.
_LABEL_MAPS = ("PNG",)
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: Path) -> np.ndarray:
    """Decode an image file to RGB.

    Returns:
        uint8 array of shape (height, width, 3).

    Raises:
        DataError: the file is missing, no image, damaged, or larger than 64 megapixels.
    """
    return _decode(path, rgb_pixels)


def read_photograph(path: Path) -> np.ndarray:
    """Decode an image file to RGB, turned upright as its EXIF orientation says; see `read_image`."""
    return _decode(path, lambda image: rgb_pixels(upright(image)))


def read_label_map(path: Path) -> np.ndarray:
    """Decode a PNG of class ids, 8 or 16 bits deep, to an int32 array of shape (height, width).

    Raises:
        DataError: as `read_image`, or the file is no PNG or has several channels.
    """
    label_map_HW = _decode(path, np.array, _LABEL_MAPS)
    if label_map_HW.ndim != 2:
        raise DataError(f"{path}: has {label_map_HW.shape[2]} channels; a map of class ids has one.")
    return label_map_HW.astype(np.int32)


def upright(image: Image.Image) -> Image.Image:
    """Return an image turned as its EXIF orientation says; one without, or with a damaged one, as it is."""
    # Not `ImageOps.exif_transpose`: it also writes EXIF anew, and fails where another entry is damaged.
    image.load()  # Pillow turns a TIFF here, and then forgets its orientation
    method = _TO_UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if method is None else image.transpose(method)


def rgb_pixels(image: Image.Image) -> np.ndarray:
    """Return an image of any mode as a uint8 RGB array of shape (height, width, 3)."""
    if image.mode.startswith("I;16"):
        # Pillow would clip 16-bit grey at 255, which turns most of a picture white.
        image = Image.fromarray((np.array(image) // 257).astype(np.uint8))
    return np.array(image.convert("RGB"))


def _decode(
    path: Path, pixels_of: Callable[[Image.Image], np.ndarray], formats: tuple[str, ...] = _PHOTOGRAPHS
) -> np.ndarray:
    try:
        with _open(path, formats) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DataError(
                    f"{path}: {height} x {width} pixels is more than {MAX_PIXELS // 1_000_000} megapixels. "
                    "Make the image smaller first."
                )
            return pixels_of(image)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such image file. Check the path, or get the image again.") from error
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, Image.DecompressionBombError) as error:
        kind = "PNG" if formats == _LABEL_MAPS else "image"
        raise DataError(
            f"{path}: not a readable {kind} ({' '.join(str(error).split())}). Get it again, or save it as "
            f"{'PNG' if formats == _LABEL_MAPS else 'PNG or JPEG'}."
        ) from error


def _open(path: Path, formats: tuple[str, ...]) -> Image.Image:
    Image.init()
    with warnings.catch_warnings():
        # Pillow warns of large images on stderr; ours are refused with an error.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        # Some builds of Pillow lack a format.
        return Image.open(path, formats=[name for name in formats if name in Image.OPEN])
