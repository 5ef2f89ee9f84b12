"""calico.data.annotations.unify: one set of tables out of all sources, nothing lost without a count."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calico.config import SynthesizeSection, UnifySection
from calico.core import masks, tables
from calico.core.caption_rows import CaptionTable
from calico.core.files import read_json, read_parquet, verify_manifest
from calico.core.records import ImageRecord
from calico.data.annotations import unify as module
from calico.data.annotations.annotated_image import AnnotatedImage, AnnotatedObject, AnnotatedPart
from calico.data.annotations.unify import READERS, unify
from calico.data.synthetic.generate import synthesize
from calico.errors import DataError

SOURCES = ["partimagenet", "paco_lvis", "ade20k_part_234"]
COUNTS = {"train": 4, "val": 3, "test": 3}


def section(**changes: Any) -> UnifySection:
    return UnifySection.model_validate(
        {"sources": SOURCES, "min_object_area_px": 100, "min_part_area_px": 24} | changes
    )


@pytest.fixture(scope="module")
def sources_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sources")
    values = {
        "seed": 3, "difficulty": 0.3, "image_size_px": 128, "num_workers": 1,
        "num_images": dict.fromkeys(SOURCES, COUNTS), "num_grand_images": 3,
    }  # fmt: skip
    synthesize(SynthesizeSection.model_validate(values), path, seed=3)
    return path


def test_all_sources_become_tables(sources_path: Path, tmp_path: Path) -> None:
    summary = unify(section(), sources_path, tmp_path)
    images = tables.read_images(tmp_path / "images.parquet")
    by_source = Counter(image.source for image in images)
    assert by_source == dict.fromkeys(SOURCES, 10) | {"grand": 3}
    assert all((sources_path / image.path).is_file() for image in images)
    sizes = {image.image_id: (image.height, image.width) for image in images}
    objects = {one.object_id: one for one in tables.read_objects(tmp_path / "objects.parquet")}
    parts = tables.read_parts(tmp_path / "parts.parquet")
    assert all(sizes[one.image_id] == (one.rle.height, one.rle.width) for one in [*objects.values(), *parts])
    assert all(objects[part.object_id].image_id == part.image_id for part in parts)
    assert len({part.part_id for part in parts}) == len(parts)
    assert len({(part.object_id, part.category) for part in parts}) == len(parts)
    rows = [*read_parquet(tmp_path / "objects.parquet"), *read_parquet(tmp_path / "parts.parquet")]
    for row in rows:
        mask_HW = masks.decode(masks.Rle(row["height"], row["width"], row["rle_counts"]))
        ys, xs = np.nonzero(mask_HW)
        assert row["box_xyxy"] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert row["area_px"] == mask_HW.sum()
    captions = CaptionTable(tmp_path / "rows" / "captions")
    assert {caption.image_id for caption in captions} <= set(sizes)
    assert summary["num_captions"] == summary["counts"]["grand"]["train"]["captions"] == len(captions) > 0
    assert sum(split["objects"] for split in summary["counts"]["paco_lvis"].values()) == sum(
        one.image_id.startswith("paco_lvis/") for one in objects.values()
    )
    assert read_json(tmp_path / "summary.json") == summary
    assert set(verify_manifest(tmp_path)["files"]) >= {"images.parquet", "rejected.parquet", "summary.json"}


def test_same_sources_give_same_bytes(sources_path: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        unify(section(), sources_path, tmp_path / name)
    assert (tmp_path / "first" / "manifest.json").read_bytes() == (
        tmp_path / "second" / "manifest.json"
    ).read_bytes()


def test_order_and_choice_of_sources_are_the_sections(sources_path: Path, tmp_path: Path) -> None:
    unify(section(sources=["paco_lvis"]), sources_path, tmp_path)
    assert {image.source for image in tables.read_images(tmp_path / "images.parquet")} == {
        "paco_lvis",
        "grand",
    }


def square(side: int) -> masks.Rle:
    mask_HW = np.zeros((20, 20), dtype=bool)
    mask_HW[:side, :side] = True
    return masks.encode(mask_HW)


def corner(side: int) -> masks.Rle:
    return masks.encode(masks.decode(square(side))[::-1, ::-1])


@pytest.fixture
def one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let PACO's reader yield one image with the given objects."""
    (tmp_path / "paco_lvis").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "paco_lvis" / "1.png")

    def unify_objects(
        *objects: AnnotatedObject, num_copies: int = 1, height: int = 20
    ) -> module.UnifiedTables:
        image = ImageRecord("paco_lvis/1", "paco_lvis", "paco_lvis/1.png", height, 20, "train")

        def read(folder: Path) -> Iterator[AnnotatedImage]:
            path = tmp_path / "paco_lvis" / "train.json"
            yield from [AnnotatedImage(image, objects, (), path)] * num_copies

        monkeypatch.setattr(module, "READERS", {**READERS, "paco_lvis": read})
        return module.read_sources(section(sources=["paco_lvis"]), tmp_path)

    return unify_objects


def test_small_objects_take_their_parts_along(one_image: Any) -> None:
    part = AnnotatedPart("2", "head", square(9))
    unified = one_image(AnnotatedObject("1", "dog", square(9), (part,)))
    assert (unified.objects, unified.parts) == ([], [])
    assert [(one.annotation_id, one.reason, one.file) for one in unified.rejected] == [
        ("1", "object too small", "paco_lvis/train.json"),
        ("2", "part of a rejected object", "paco_lvis/train.json"),
    ]
    assert module.summarize(unified)["rejected"] == {
        "paco_lvis": {"object too small": 1, "part of a rejected object": 1}
    }


def test_pieces_of_a_part_are_merged_before_they_are_measured(one_image: Any) -> None:
    parts = (
        AnnotatedPart("2", "tail", square(4)),
        AnnotatedPart("3", "head", square(8)),
        AnnotatedPart("4", "tail", corner(3)),
        AnnotatedPart("5", "paw", square(4)),
        AnnotatedPart("6", "paw", corner(2)),
    )
    unified = one_image(AnnotatedObject("1", "dog", square(12), parts))
    assert [(part.part_id, part.rle.area_px) for part in unified.parts] == [
        ("paco_lvis/1#0/head", 64),
        ("paco_lvis/1#0/tail", 16 + 9),
    ]
    assert [(one.annotation_id, one.reason) for one in unified.rejected] == [
        ("5", "part too small"),
        ("6", "part too small"),
    ]


def test_object_ids_do_not_depend_on_what_is_rejected(one_image: Any) -> None:
    unified = one_image(
        AnnotatedObject("1", "dog", square(3), ()), AnnotatedObject("2", "dog", square(15), ())
    )
    assert [one.object_id for one in unified.objects] == ["paco_lvis/1#1"]


def test_image_of_another_size_and_double_ids_are_refused(one_image: Any) -> None:
    with pytest.raises(DataError, match=r"1\.png: the file has 20 x 20 pixels, its annotation 21 x 20"):
        one_image(height=21)
    with pytest.raises(
        DataError,
        match=r"1 image ids stand for two images each, first 'paco_lvis/1' for \S+\.png and \S+\.png",
    ):
        one_image(num_copies=2)


def test_missing_source_and_damaged_image_are_named(sources_path: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"paco_lvis_v1_train\.json: no such file"):
        unify(section(sources=["paco_lvis"]), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
