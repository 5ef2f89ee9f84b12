"""calico.data.annotations.own_coco: a person's own file becomes a source like the others."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from pydantic import ValidationError

from calico.config import CurateSection, OwnSource, PairSection, UnifySection
from calico.core import tables
from calico.core.files import read_json
from calico.core.images import read_image
from calico.core.tokens import TASKS
from calico.data.annotations import own_coco
from calico.data.annotations.coco import CocoCategory
from calico.data.annotations.unify import unify
from calico.data.pairs.curate import curate
from calico.data.pairs.pairing import pair
from calico.errors import DataError

ROOT = Path(__file__).parents[4]
DOCUMENT_PATH = ROOT / "docs" / "own-data.md"
ANNOTATIONS_PATH = ROOT / "calico" / "data" / "annotations"
MODULES_WITH_REASONS = ("coco", "ownership", "segmentation", "unify")
SQUARE = [[2, 2, 18, 2, 18, 18, 2, 18]]
CORNER = [[2, 2, 8, 2, 8, 8, 2, 8]]
CATEGORIES = [
    {"id": 1, "name": "toy_dog"},
    {"id": 2, "name": "toy_dog:left_ear"},
    {"id": 3, "name": "Leg", "supercategory": "toy_dog"},
    {"id": 4, "name": "wheel", "supercategory": "part"},
    {"id": 5, "name": "cat", "supercategory": "animal"},
]


def annotation(number: int, category_id: int, polygons: Any = CORNER, **fields: Any) -> dict[str, Any]:
    return {"id": number, "image_id": 1, "category_id": category_id, "segmentation": polygons, **fields}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write a file with the given annotations beside one image; return its entry in own_sources."""
    (tmp_path / "photos" / "new").mkdir(parents=True)
    (tmp_path / "sources").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "photos" / "new" / "a.b.png")

    def write_file(rows: list[dict[str, Any]], **changes: Any) -> OwnSource:
        images = [{"id": 1, "file_name": "new/a.b.png", "height": 20, "width": 20}]
        path = tmp_path / "toys.json"
        path.write_text(json.dumps({"images": images, "annotations": rows, "categories": CATEGORIES}))
        values = {
            "kind": "coco", "name": "toys", "annotations": str(path), "images": str(tmp_path / "photos"),
            "split": "train", "part_link": None,
        }  # fmt: skip
        return OwnSource.model_validate(values | changes)

    return write_file


def read(source: OwnSource, tmp_path: Path) -> Any:
    (image,) = own_coco.read(source, tmp_path / "sources")
    return image


def found(image: Any) -> list[tuple[str, list[str]]]:
    return [(one.category, [part.category for part in one.parts]) for one in image.objects]


def reasons(image: Any) -> list[tuple[str, str]]:
    return [(rejection.annotation_id, rejection.reason) for rejection in image.rejections]


def test_parts_are_found_by_category_and_containment(write: Any, tmp_path: Path) -> None:
    rows = [annotation(1, 2), annotation(2, 1, SQUARE), annotation(3, 3), annotation(4, 4), annotation(5, 5)]
    image = read(write(rows), tmp_path)
    assert found(image) == [("toy dog", ["left ear", "Leg"]), ("cat", ["wheel"])]
    assert vars(image.image) == {
        "image_id": "toys/new/a.b", "source": "toys", "path": "../photos/new/a.b.png",
        "height": 20, "width": 20, "split": "train",
    }  # fmt: skip
    assert read_image(tmp_path / "sources" / image.image.path).shape == (20, 20, 3)


def test_parts_are_found_by_the_named_field(write: Any, tmp_path: Path) -> None:
    rows = [
        annotation(1, 1, SQUARE, parent=None),
        annotation(2, 1, SQUARE),
        annotation(3, 2, parent=2),
        annotation(4, 5, parent=2),
        annotation(5, 2, parent=77),
        annotation(6, 3),
    ]
    image = read(write(rows, part_link="parent"), tmp_path)
    assert found(image) == [("toy dog", []), ("toy dog", ["left ear", "cat"])]
    assert reasons(image) == [
        ("5", "part without a usable object in its image"),
        ("6", "part without a usable object in its image"),
    ]


def test_unusable_annotations_are_counted(write: Any, tmp_path: Path) -> None:
    rows = [
        annotation(1, 1, []),
        annotation(2, 2),
        annotation(3, 1, SQUARE, iscrowd=1),
        annotation(4, 1, None),
    ]
    assert reasons(read(write(rows), tmp_path)) == [
        ("1", "empty mask"),
        ("3", "crowd region, not one object"),
        ("4", "segmentation is neither polygons nor run lengths"),
        ("2", "part that lies in no object of its category"),
    ]


def test_wrong_params_are_named(write: Any, tmp_path: Path) -> None:
    rows = [annotation(1, 1, SQUARE), annotation(2, 2)]
    with pytest.raises(
        DataError, match=r"toys\.json: none of 2 annotations has a 'owner'\. Correct part_link of 'toys'"
    ):
        read(write(rows, part_link="owner"), tmp_path)
    with pytest.raises(DataError, match=r"nowhere: no such folder\. Correct images of 'toys' in own_sources"):
        read(write(rows, images=str(tmp_path / "nowhere")), tmp_path)
    with pytest.raises(
        DataError, match=r"other\.json: no such file\. Get the data set again, or correct unify's"
    ):
        read(write(rows, annotations=str(tmp_path / "other.json")), tmp_path)
    for name in ("paco_lvis", "grand", "mixed_parts"):
        with pytest.raises(ValidationError, match="the name of a published source"):
            write(rows, name=name)
    for empty in ("annotations", "images"):
        with pytest.raises(ValidationError, match="at least 1 character"):
            write(rows, **{empty: ""})
    with pytest.raises(ValidationError, match="pattern"):
        write(rows, name="../up")


@pytest.mark.parametrize("name", ["toy:", ":ear", "_", "_(toy)", "toy: _", "_(toy):ear"])
def test_a_name_of_which_nothing_is_left_is_refused(name: str, write: Any, tmp_path: Path) -> None:
    source = write([])
    content = read_json(Path(source.annotations))
    content["categories"].append({"id": 9, "name": name})
    Path(source.annotations).write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"toys\.json: category 9 is named .*Write an object as 'dog'"):
        read(source, tmp_path)


@pytest.mark.parametrize("name", ["toy__dog : left_  ear", " toy_(a)_dog:left_ear "])
def test_stray_blanks_leave_the_names(name: str) -> None:
    """A label with two blanks in a row does not come back from an answer."""
    labels = own_coco.read_labels({1: CocoCategory(id=1, name=name)}, Path("toys.json"))
    assert labels == {1: own_coco.Label("left ear", True, "toy dog")}


def test_image_folder_behind_a_link_is_found(write: Any, tmp_path: Path) -> None:
    source = write([annotation(1, 1, SQUARE)])
    (tmp_path / "deep" / "er").mkdir(parents=True)
    shutil.rmtree(tmp_path / "sources")
    (tmp_path / "sources").symlink_to(tmp_path / "deep" / "er")
    image = read(source, tmp_path)
    assert read_image(tmp_path / "sources" / image.image.path).shape == (20, 20, 3)


def test_splits_by_image_are_8_1_1() -> None:
    splits = [own_coco.split_of(f"toys/{number}") for number in range(3000)]
    # Binomial: 2400 +- 22 and 300 +- 16; the hash is fixed, so this cannot flicker.
    assert abs(splits.count("train") - 2400) < 90
    assert abs(splits.count("val") - 300) < 65
    assert splits.count("train") + splits.count("val") + splits.count("test") == 3000


def test_entry_of_the_documentation_is_accepted() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT_PATH.read_text(), re.DOTALL)
    values = yaml.safe_load(block)["tiny"]["unify"] | {"min_object_area_px": 100, "min_part_area_px": 24}
    assert UnifySection.model_validate(values).own_sources[0].name == "kitchen"


def test_reasons_of_the_documentation_are_those_of_the_code() -> None:
    """Every reason that an own source can give has a row, and no row is of another reason."""
    text = DOCUMENT_PATH.read_text().split("## What is left out")[1]
    (table,) = re.findall(r"\|---\|---\|\n((?:\|.*\n)+)", text)
    cells = [row.split("|")[1].strip() for row in table.splitlines()]
    code = "".join((ANNOTATIONS_PATH / f"{name}.py").read_text() for name in MODULES_WITH_REASONS)
    raised = set(re.findall(r'(?:UnusableMaskError\(|annotation_id, )"([^"]+)"', code))
    documented = {reason for reason in raised if any(reason in cell for cell in cells)}
    assert documented == raised
    assert all(any(reason in cell for reason in raised) for cell in cells)


def test_own_photographs_become_pairs(real_path: Path, tmp_path: Path) -> None:
    """The whole way of docs/own-data.md, on photographs whose parts are linked to their objects."""
    source = {
        "kind": "coco", "name": "pascal_part", "split": "train", "part_link": "obj_ann_id",
        "annotations": str(real_path / "pascal_part" / "pascal_part_paco_style.json"),
        "images": str(real_path / "pascal_part" / "images"),
    }  # fmt: skip
    values = {"sources": [], "own_sources": [source], "min_object_area_px": 100, "min_part_area_px": 24}
    (tmp_path / "sources").mkdir()
    summary = unify(UnifySection.model_validate(values), tmp_path / "sources", tmp_path / "unify")
    entries = read_json(Path(source["annotations"]))["annotations"]
    areas = {(one["id"] == one["obj_ann_id"]): [] for one in entries}
    for one in entries:
        areas[one["id"] == one["obj_ann_id"]].append(one["area"])
    assert summary["counts"]["pascal_part"]["train"] == {
        "images": 10,
        "objects": sum(area >= 100 for area in areas[True]),
        "parts": sum(area >= 24 for area in areas[False]),
    }
    rejected = tables.read_rejected(tmp_path / "unify" / "rejected.parquet")
    assert {one.file for one in rejected} == {source["annotations"]}
    curate(CurateSection(reviewed=None, min_jaccard=0.2), tmp_path / "unify", tmp_path / "curate")
    section = PairSection.model_validate(
        {"seed": 1, "num_pairs": {"train": dict.fromkeys(TASKS, 30), "val": 0, "test": 0}, "max_targets": 30}
    )
    statistics = pair(section, tmp_path / "unify", tmp_path / "curate", tmp_path / "pair")
    pairs = tables.read_pairs(tmp_path / "pair" / "train.parquet")
    assert {one.task for one in pairs} == {"common_objects", "common_parts", "unique_parts"}
    assert any(
        set(one.image_ids) == {"pascal_part/2008_005643", "pascal_part/2010_005275"}
        and one.task == "unique_parts"
        for one in pairs
    ), "a dog with a muzzle and a cat without"
    bare = [
        count for reason, count in statistics["rejected"]["train"].items() if "object without parts" in reason
    ]
    assert sum(bare) > 0


def test_linked_and_contained_parts_are_the_same(real_path: Path, tmp_path: Path) -> None:
    """Two independent ways on the same photographs."""

    def joined(part_link: str | None) -> set[tuple[str, str, str]]:
        source = OwnSource.model_validate(
            {"kind": "coco", "name": "real", "split": "train", "part_link": part_link,
             "annotations": str(real_path / "pascal_part" / "pascal_part_paco_style.json"),
             "images": str(real_path / "pascal_part" / "images")}
        )  # fmt: skip
        images = list(own_coco.read(source, tmp_path))
        return {
            (image.image.image_id, one.annotation_id, part.annotation_id)
            for image in images for one in image.objects for part in one.parts
        }  # fmt: skip

    linked, contained = joined("obj_ann_id"), joined(None)
    assert len(linked) == 147
    assert contained == linked
