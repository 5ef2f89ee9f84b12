"""Decode image files: one decoder for the whole project, so that masks and pixels cannot drift apart.

EXIF orientation is ignored: the annotations of the published data sets were drawn on the stored pixels.
"""

import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from calico.errors import DataError

MAX_PIXELS = 64_000_000


def read_image(path: Path) -> np.ndarray:
    """Decode an image file to RGB.

    Returns:
        uint8 array of shape (height, width, 3).

    Raises:
        DataError: the file is missing, no image, damaged, or larger than 64 megapixels.
    """
    return _decode(path, "RGB").astype(np.uint8, copy=False)


def read_label_map(path: Path) -> np.ndarray:
    """Decode a PNG of class ids, 8 or 16 bits deep, to an int32 array of shape (height, width).

    Raises:
        DataError: as `read_image`, or the file has several channels.
    """
    label_map_HW = _decode(path, None)
    if label_map_HW.ndim != 2:
        raise DataError(f"{path}: has {label_map_HW.shape[2]} channels; a map of class ids has one.")
    return label_map_HW.astype(np.int32)


def _decode(path: Path, mode: str | None) -> np.ndarray:
    try:
        with _open(path) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DataError(
                    f"{path}: {height} x {width} pixels is more than {MAX_PIXELS // 1_000_000} megapixels. "
                    "Make the image smaller first."
                )
            return np.array(image) if mode is None else _rgb(image)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such image file.") from error
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable image ({' '.join(str(error).split())}).") from error


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        # Pillow would clip 16-bit grey at 255, which turns most of a picture white.
        image = Image.fromarray((np.array(image) // 257).astype(np.uint8))
    return np.array(image.convert("RGB"))


def _open(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        # Pillow warns of large images on stderr; ours are refused with an error.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path)
