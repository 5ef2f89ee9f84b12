"""calico.core.image_rows: image records in arrays on disk, looked up by id."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calico.core import tables
from calico.core.image_rows import ImageTable
from calico.core.records import ImageRecord
from calico.errors import DataError

# Neither sorted by id nor, among themselves, of one length.
IDS = ("paco/9", "grand/sa_10", "grand/sa_1", "ä/1", "paco/90", "", "z")
IMAGES = [
    ImageRecord(image_id, f"source {row}", f"{image_id}.jpg", 10 + row, 20 + row, ("train", "val")[row % 2])
    for row, image_id in enumerate(IDS)
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tables.write_images(tmp_path / "images.parquet", iter(IMAGES))
    return tmp_path / "rows" / "images"


def test_images_are_found_by_id(path: Path) -> None:
    found = ImageTable(path)
    assert dict(found) == {image.image_id: image for image in IMAGES}
    assert list(found) == list(IDS)
    assert tables.read_images(path.parent.parent / "images.parquet") == IMAGES


@pytest.mark.parametrize("image_id", ["a", "paco/8", "paco/900", "zz", "grand/sa_"])
def test_other_ids_are_not_there(image_id: str, path: Path) -> None:
    found = ImageTable(path)
    assert image_id not in found
    with pytest.raises(KeyError, match=image_id):
        found[image_id]


def test_empty_table(tmp_path: Path) -> None:
    tables.write_images(tmp_path / "images.parquet", [])
    found = ImageTable(tmp_path / "rows" / "images")
    assert (len(found), list(found), "a" in found) == (0, [], False)


def test_a_damaged_row_is_named(path: Path) -> None:
    content = (path / "bytes.bin").read_bytes()
    assert content.count(b"source 3") == 1
    (path / "bytes.bin").write_bytes(content.replace(b"source 3", b"\xff" * 8))
    found = ImageTable(path)
    assert found["z"] == IMAGES[-1]
    with pytest.raises(DataError, match=r"rows/images: the way to image 'ä/1' is damaged"):
        found["ä/1"]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(("rows.bin", "bytes.bin")),
    start=st.floats(0, 1),
    noise=st.binary(min_size=1, max_size=24),
)
def test_damaged_bytes_never_crash(name: str, start: float, noise: bytes, path: Path) -> None:
    tables.write_images(path.parent.parent / "images.parquet", IMAGES)
    content = bytearray((path / name).read_bytes())
    place = int(start * (len(content) - 1))
    content[place : place + len(noise)] = noise
    (path / name).write_bytes(content)
    with suppress(DataError):
        found = ImageTable(path)
        with suppress(DataError):
            assert all(isinstance(image_id, str) for image_id in found)
        for image_id in IDS:
            with suppress(DataError, KeyError):
                assert isinstance(found[image_id], ImageRecord)
