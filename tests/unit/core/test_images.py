"""calico.core.images: pixels as stored, and one clear error for everything that is no image."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from calico.core import images
from calico.errors import DataError

PIXELS_HWC = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def test_pixels_come_back(tmp_path: Path) -> None:
    Image.fromarray(PIXELS_HWC).save(tmp_path / "a.png")
    found_HWC = images.read_image(tmp_path / "a.png")
    assert found_HWC.dtype == np.uint8
    assert (found_HWC == PIXELS_HWC).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    suffix = "tif" if mode in {"CMYK", "I;16"} else "png"
    picture = Image.new("I;16", (9, 6)) if mode == "I;16" else Image.fromarray(PIXELS_HWC).convert(mode)
    picture.save(tmp_path / f"a.{suffix}")
    assert images.read_image(tmp_path / f"a.{suffix}").shape == (6, 9, 3)


def test_orientation_of_exif_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS_HWC).save(tmp_path / "a.jpg", exif=exif)
    assert images.read_image(tmp_path / "a.jpg").shape == (6, 9, 3)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_photographs_are_turned_upright(form: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS_HWC).save(tmp_path / "a", format=form, exif=exif)
    expected_HWC = np.array(ImageOps.exif_transpose(Image.open(tmp_path / "a")))
    assert (images.read_photograph(tmp_path / "a") == expected_HWC).all()
    assert expected_HWC.shape == ((9, 6, 3) if 5 <= orientation <= 8 else (6, 9, 3))


def test_damaged_exif_leaves_the_picture_readable(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 3.5
    content = exif.tobytes()
    start = content.index(struct.pack(">H", 0x011A))
    # The resolution becomes a byte, which Pillow cannot write back as a number.
    damaged = content[: start + 2] + struct.pack(">H", 7) + content[start + 4 :]
    Image.fromarray(PIXELS_HWC).save(tmp_path / "a.png", exif=damaged)
    with pytest.raises((struct.error, TypeError)):
        ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))
    assert images.read_photograph(tmp_path / "a.png").shape == (9, 6, 3)


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "a.png")
    assert images.read_image(tmp_path / "a.png").shape == (1, 1, 3)


@pytest.mark.parametrize("content", [b"", b"some text, no picture", b"\xff\xd8\xff\xe0rest"])
def test_other_files_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.jpg: not a readable image"):
        images.read_image(tmp_path / "a.jpg")


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jpg: no such image file"):
        images.read_image(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="not a readable image"):
        images.read_image(tmp_path)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_cut_files_are_refused(form: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.tile(PIXELS_HWC, (20, 20, 1))).save(buffer, format=form)
    (tmp_path / "a").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(DataError, match="a: not a readable image"):
        images.read_image(tmp_path / "a")


@pytest.mark.parametrize(("width", "height"), [(12_000, 9_000), (30_000, 30_000), (2_000_000_000, 1)])
def test_huge_images_are_refused_before_decoding(width: int, height: int, tmp_path: Path) -> None:
    Image.new("L", (1, 1)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: .*(more than 64 megapixels|decompression bomb)"):
        images.read_image(tmp_path / "a.png")


@pytest.mark.parametrize(("dtype", "value"), [(np.uint8, 158), (np.uint16, 65535)])
def test_label_maps_keep_their_ids(dtype: type, value: int, tmp_path: Path) -> None:
    label_map_HW = np.array([[0, 1, value], [value, 233 % value, 2]], dtype=dtype)
    Image.fromarray(label_map_HW).save(tmp_path / "a.png")
    found_HW = images.read_label_map(tmp_path / "a.png")
    assert found_HW.dtype == np.int32
    assert (found_HW == label_map_HW).all()


def test_palette_map_gives_indices(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 7], [40, 2]], dtype=np.uint8), mode="P")
    picture.putpalette([255 - index // 3 for index in range(768)])
    picture.save(tmp_path / "a.png")
    assert images.read_label_map(tmp_path / "a.png").tolist() == [[0, 7], [40, 2]]


def test_colour_picture_is_no_label_map(tmp_path: Path) -> None:
    Image.fromarray(PIXELS_HWC).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="has 3 channels"):
        images.read_label_map(tmp_path / "a.png")


@pytest.mark.parametrize("form", ["JPEG", "GIF", "TIFF"])
def test_label_map_is_a_png(form: str, tmp_path: Path) -> None:
    """JPEG changes ids; TIFF may hold numbers below zero, or none."""
    numbers_HW = np.full((2, 2), -1.0, dtype=np.float32)
    picture = Image.fromarray(numbers_HW) if form == "TIFF" else Image.new("L", (2, 2))
    picture.save(tmp_path / "a.png", format=form)
    with pytest.raises(DataError, match=r"a\.png: not a readable PNG .* Get it again, or save it as PNG"):
        images.read_label_map(tmp_path / "a.png")


def test_no_other_program_is_started_for_a_picture(tmp_path: Path) -> None:
    """Pillow hands EPS to Ghostscript."""
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 8\n%%EndComments\n")
    with pytest.raises(DataError, match=r"a\.jpg: not a readable image \(cannot identify image file"):
        images.read_image(tmp_path / "a.jpg")


def test_16_bits_keep_their_shades(tmp_path: Path) -> None:
    shades_HW = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(shades_HW).save(tmp_path / "a.png")
    assert images.read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 128, 255]
