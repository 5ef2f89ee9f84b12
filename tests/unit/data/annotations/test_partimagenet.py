"""calico.data.annotations.partimagenet: classes from file names, parts from polygons, objects from maps."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calico.core import masks
from calico.data.annotations import partimagenet
from calico.data.annotations.coco import CocoCategory
from calico.data.synthetic.generate import scene_generator
from calico.data.synthetic.partimagenet import write_annotations, write_image
from calico.data.synthetic.renderer import render_scene
from calico.errors import DataError

CATEGORIES = [
    {"id": 0, "name": "Quadruped Head", "supercategory": "Quadruped"},
    {"id": 3, "name": "Quadruped Tail", "supercategory": "Quadruped"},
]
SQUARE = [0, 0, 3, 0, 3, 3, 0, 3]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """An empty release."""
    folder = tmp_path / "partimagenet"
    for split in partimagenet.SPLITS:
        (folder / "annotations" / split).mkdir(parents=True)
        write_split(folder, split, [], [])
    return folder


def write_split(folder: Path, split: str, file_names: list[str], annotations: list[dict[str, Any]]) -> None:
    images = [
        {"id": number, "file_name": name, "height": 5, "width": 7} for number, name in enumerate(file_names)
    ]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / "annotations" / split / f"{split}.json").write_text(json.dumps(content))


def part(number: int, image_id: int, polygons: list[Any], category_id: int = 0) -> dict[str, Any]:
    return {"id": number, "image_id": image_id, "category_id": category_id, "segmentation": polygons}


def test_object_is_the_union_of_parts_without_a_map(release: Path) -> None:
    write_split(
        release,
        "val",
        ["n02085782_1.JPEG"],
        [part(1, 0, [SQUARE]), part(2, 0, [[4, 3, 7, 3, 7, 5, 4, 5]], 3)],
    )
    (image,) = partimagenet.read(release)
    assert (image.image.image_id, image.image.split) == ("partimagenet/n02085782_1", "val")
    assert image.image.path == "partimagenet/images/val/n02085782_1.JPEG"
    (found,) = image.objects
    assert found.category == "dog"
    assert [one.category for one in found.parts] == ["head", "tail"]
    assert found.rle.area_px == 9 + 6


def test_map_of_the_object_counts_where_there_is_one(release: Path) -> None:
    write_split(release, "val", ["n02085782_1.JPEG"], [part(1, 0, [SQUARE])])
    folder = release / "annotations" / "val_whole"
    folder.mkdir()
    label_map_HW = np.full((5, 7), 158, dtype=np.uint8)
    label_map_HW[:4] = 44
    Image.fromarray(label_map_HW).save(folder / "n02085782_1.png")
    (image,) = partimagenet.read(release)
    assert image.objects[0].rle.area_px == 28
    Image.fromarray(label_map_HW[:, :3]).save(folder / "n02085782_1.png")
    with pytest.raises(DataError, match=r"n02085782_1\.png: the map is 5 x 3, the image 5 x 7"):
        list(partimagenet.read(release))


def test_map_that_is_no_file_is_refused(release: Path) -> None:
    write_split(release, "val", ["n02085782_1.JPEG"], [part(1, 0, [SQUARE])])
    (release / "annotations" / "val_whole").mkdir()
    path = release / "annotations" / "val_whole" / "n02085782_1.png"
    path.symlink_to(release / "gone.png")
    with pytest.raises(DataError, match=r"n02085782_1\.png: no such image file"):
        list(partimagenet.read(release))
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=r"n02085782_1\.png: not a readable PNG"):
        list(partimagenet.read(release))


@pytest.mark.parametrize("value", [159, 255])
def test_map_with_another_class_is_refused(value: int, release: Path) -> None:
    """A mask of 0 and 255 would make the whole image the object."""
    write_split(release, "val", ["n02085782_1.JPEG"], [part(1, 0, [SQUARE])])
    (release / "annotations" / "val_whole").mkdir()
    label_map_HW = np.zeros((5, 7), dtype=np.uint8)
    label_map_HW[:4] = value
    Image.fromarray(label_map_HW).save(release / "annotations" / "val_whole" / "n02085782_1.png")
    with pytest.raises(
        DataError,
        match=rf"n02085782_1\.png: the map holds {value}, which is neither a class \(0 to 157\)",
    ):
        list(partimagenet.read(release))


def test_classes_without_a_category_and_empty_images_are_counted(release: Path) -> None:
    names = ["n02701002_5.JPEG", "n02085782_2.JPEG"]
    write_split(release, "train", names, [part(1, 0, [SQUARE]), part(2, 1, [[1, 1]]), part(3, 1, [])])
    images = list(partimagenet.read(release))
    assert [image.image for image in images] == [None, None]
    reasons = Counter(rejection.reason for image in images for rejection in image.rejections)
    assert reasons["class without a category"] == 1
    assert reasons["image without an object"] == 1
    assert reasons["empty mask"] == 2


def test_unknown_class_is_refused(release: Path) -> None:
    write_split(release, "test", ["n99999999_1.JPEG"], [])
    with pytest.raises(
        DataError, match=r"test\.json: image 'n99999999_1' is of class 'n99999999', which is none"
    ):
        list(partimagenet.read(release))


def test_missing_annotation_file_is_named(release: Path) -> None:
    (release / "annotations" / "test" / "test.json").unlink()
    with pytest.raises(DataError, match=r"test/test\.json: no such file"):
        list(partimagenet.read(release))


@pytest.mark.parametrize(
    ("name", "supercategory", "expected"),
    [
        ("Quadruped Head", "Quadruped", "head"),
        ("Car Side Mirror", "Car", "side mirror"),
        ("head", "quadruped", "head"),
    ],
)
def test_part_names_are_bare(name: str, supercategory: str, expected: str) -> None:
    assert partimagenet.part_name(CocoCategory(id=0, name=name, supercategory=supercategory)) == expected


@pytest.mark.parametrize(
    ("name", "supercategory"),
    [
        ("Quadruped", "Quadruped"),
        ("Quadruped Haed", "Quadruped"),
        ("Quadruped Head", None),
        ("Quadruped Head", "Biped"),
        ("Snake Tail", "Snake"),
        ("Head", "Lamp"),
        ("Bottle Cap", "Bottle"),
    ],
)
def test_part_that_the_release_lacks_is_refused(name: str, supercategory: str | None, release: Path) -> None:
    path = release / "annotations" / "test" / "test.json"
    stranger = {"id": 7, "name": name, "supercategory": supercategory}
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": [*CATEGORIES, stranger]}))
    with pytest.raises(
        DataError, match=rf"test\.json: 1 categories are none of PartImageNet's parts, first '{name}'"
    ):
        list(partimagenet.read(release))


def test_the_releases_40_parts_are_accepted() -> None:
    """Source: the categories of the release, as VLPart and PartGLEE list them."""
    names = {
        "Quadruped": "Head Body Foot Tail", "Biped": "Head Body Hand Foot Tail", "Fish": "Head Body Fin Tail",
        "Bird": "Head Body Wing Foot Tail", "Snake": "Head Body", "Reptile": "Head Body Foot Tail",
        "Car": "Body Tier Side_Mirror", "Bicycle": "Body Head Seat Tier", "Boat": "Body Sail",
        "Aeroplane": "Head Body Engine Wing Tail", "Bottle": "Mouth Body",
    }  # fmt: skip
    pairs = [(group, part.replace("_", " ")) for group, parts in names.items() for part in parts.split()]
    categories = {
        number: CocoCategory(id=number, name=f"{group} {part}", supercategory=group)
        for number, (group, part) in enumerate(pairs)
    }
    assert len(categories) == 40
    partimagenet.check_categories(categories, Path("train.json"))


def test_synthetic_release_reads_back_to_the_drawn_masks(tmp_path: Path) -> None:
    folder = tmp_path / "partimagenet"
    scenes, rows = [], []
    for index in range(8):
        scene = render_scene(scene_generator(1, "test", index), source="partimagenet", difficulty=0.4)
        scenes.append(scene)
        rows.append(
            write_image(
                folder, split="train", index=index, scene=scene, rng=scene_generator(2, "test", index)
            )
        )
    write_annotations(folder, {"train": rows, "val": [], "test": []})
    for image, scene in zip(partimagenet.read(folder), scenes, strict=True):
        (found,), (drawn,) = image.objects, scene.objects
        assert (tmp_path / image.image.path).is_file()
        assert found.category == drawn.category
        assert (masks.decode(found.rle) == drawn.mask_HW).all()
        for drawn_part in drawn.parts:
            pieces = [one.rle for one in found.parts if one.category == drawn_part.name]
            assert (masks.decode(masks.union(pieces)) == drawn_part.mask_HW).all()


def test_parts_of_another_supercategory_are_counted(release: Path) -> None:
    write_split(release, "val", ["n01608432_1.JPEG"], [part(1, 0, [SQUARE])])
    (image,) = partimagenet.read(release)
    assert image.image is None, "a kite's only part is a quadruped's head"
    assert [(one.annotation_id, one.reason) for one in image.rejections] == [
        ("1", "part of another supercategory"),
        ("", "image without an object"),
    ]


def test_points_and_lines_are_counted_as_empty(release: Path) -> None:
    write_split(
        release, "val", ["n02085782_1.JPEG"],
        [part(1, 0, [SQUARE]), part(2, 0, [[1, 1]]), part(3, 0, [[1, 1, 6, 4]]),
         part(4, 0, [[1, 1], SQUARE], 3)],
    )  # fmt: skip
    (image,) = partimagenet.read(release)
    assert [one.annotation_id for one in image.objects[0].parts] == ["1", "4"]
    assert [(one.annotation_id, one.reason) for one in image.rejections] == [
        ("2", "empty mask"),
        ("3", "empty mask"),
    ]


def test_folder_without_a_release_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"holds neither annotations/train/train\.json \(Seg release\) nor train\.json"
    ):
        list(partimagenet.read(tmp_path))


@pytest.mark.parametrize(
    "place", ["{split}/{synset}", "images/{split}/{synset}", "images/{split}", "{split}"]
)
def test_ood_release_is_read_wherever_its_images_are(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "partimagenet"
    folder.mkdir()
    for split, synset in (("train", "n02085782"), ("val", "n01484850"), ("test", "n01491361")):
        images = [{"id": 0, "file_name": f"{synset}_1.JPEG", "height": 5, "width": 7}]
        head = {"id": 0, "name": "Fish Head", "supercategory": "Fish"}
        head = CATEGORIES[0] if split == "train" else head
        content = {"images": images, "annotations": [part(1, 0, [SQUARE])], "categories": [head]}
        (folder / f"{split}.json").write_text(json.dumps(content))
        path = folder / place.format(split=split, synset=synset) / f"{synset}_1.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (7, 5)).save(path)
    images = list(partimagenet.read(folder))
    assert [(one.image.split, one.objects[0].category) for one in images] == [
        ("train", "dog"), ("val", "shark"), ("test", "shark"),
    ]  # fmt: skip
    assert all((tmp_path / one.image.path).is_file() for one in images)


def test_ood_release_without_an_image_names_its_first_place(tmp_path: Path) -> None:
    folder = tmp_path / "partimagenet"
    folder.mkdir()
    content = {
        "images": [{"id": 0, "file_name": "n02085782_1.JPEG", "height": 5, "width": 7}],
        "annotations": [part(1, 0, [SQUARE])],
        "categories": CATEGORIES,
    }
    (folder / "train.json").write_text(json.dumps(content))
    image = next(partimagenet.read(folder))
    assert image.image.path == "partimagenet/train/n02085782/n02085782_1.JPEG"
