"""calico.data.annotations.grand: phrases where the caption has them, masks of what they name."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calico.core import masks
from calico.data.annotations import grand
from calico.data.synthetic.generate import scene_generator
from calico.data.synthetic.grand import write_image
from calico.data.synthetic.renderer import render_scene
from calico.errors import DataError

TEXT = "A dog and two mugs."
RUNS = {0: [0, 6, 18], 1: [6, 6, 12], 2: [12, 6, 6]}


def detail(phrase: str, ids: list[int], **changes: Any) -> dict[str, Any]:
    start = TEXT.find(phrase)
    values = {"phrase": phrase, "tokens_positive": [start, start + len(phrase)], "ids": ids, "bbox": []}
    return values | changes


def scene(**changes: Any) -> dict[str, Any]:
    objects = [
        {"id": number, "labels": ["x"], "segmentation": {"size": [4, 6], "counts": runs}}
        for number, runs in RUNS.items()
    ]
    dense = {"caption": TEXT, "details": [detail("A dog", [0]), detail("two mugs", [1, 2])]}
    return {
        "objects": objects,
        "floating_objects": [],
        "short_captions": [],
        "dense_caption": dense,
    } | changes


def read(folder: Path, content: Any, *, with_image: bool = True) -> Any:
    folder = folder / "grand"
    folder.mkdir(exist_ok=True)
    (folder / "sa_1.json").write_text(json.dumps(content))
    if with_image:
        Image.new("RGB", (6, 4)).save(folder / "sa_1.jpg")
    (image,) = grand.read(folder)
    return image


def reasons(image: Any) -> list[tuple[str, str]]:
    return [(rejection.annotation_id, rejection.reason) for rejection in image.rejections]


def test_phrases_get_the_union_of_their_objects(tmp_path: Path) -> None:
    image = read(tmp_path, {"sa_1.jpg": scene()})
    assert (image.image.image_id, image.image.path, image.image.split) == (
        "grand/sa_1",
        "grand/sa_1.jpg",
        "train",
    )
    (caption,) = image.captions
    assert [(phrase.label, phrase.rle.area_px) for phrase in caption.phrases] == [
        ("A dog", 6),
        ("two mugs", 12),
    ]
    assert [TEXT[phrase.start : phrase.end] for phrase in caption.phrases] == ["A dog", "two mugs"]
    assert image.rejections == ()


def test_dense_and_short_captions_are_records(tmp_path: Path) -> None:
    short = {"caption": TEXT, "details": [detail("A dog", []) | {"ids": None, "id": 0}]}
    image = read(tmp_path, {"sa_1.jpg": scene(short_captions=[short, short])})
    assert [len(caption.phrases) for caption in image.captions] == [2, 1, 1]


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ([detail("A dog", [7])], "phrase without a mask"),
        ([detail("A dog", [])], "phrase without a mask"),
        ([detail("A dog", [0], tokens_positive=[1, 6])], "phrase is not where the caption has it"),
        ([detail("A dog", [0], tokens_positive=[-1, 4])], "phrase is not where the caption has it"),
        ([detail("A dog", [0], tokens_positive=[0, 400])], "phrase is not where the caption has it"),
        ([detail(" dog ", [0])], "phrase with stray blanks"),
        ([detail("A dog", [0]), detail("dog and", [1])], "phrase overlaps another"),
    ],
)
def test_unusable_phrases_are_counted(details: list[Any], expected: str, tmp_path: Path) -> None:
    good = detail("mugs", [1])
    image = read(tmp_path, {"sa_1.jpg": scene(dense_caption={"caption": TEXT, "details": [good, *details]})})
    assert reasons(image) == [("caption 0", expected)]
    assert image.captions[0].phrases[-1].label == "mugs"


def test_captions_without_phrase_and_images_without_caption_are_left_out(tmp_path: Path) -> None:
    image = read(tmp_path, {"sa_1.jpg": scene(dense_caption={"caption": TEXT, "details": []})})
    assert (image.image, reasons(image)) == (None, [("caption 0", "caption without a grounded phrase")])
    image = read(tmp_path, {"sa_1.jpg": scene(dense_caption=None)})
    assert (image.image, reasons(image)) == (None, [("", "no caption")])
    injected = {"caption": "A [SEG] dog", "details": []}
    assert reasons(read(tmp_path, {"sa_1.jpg": scene(dense_caption=injected)}))[0][1].startswith("caption")


def test_second_object_of_an_id_is_counted(tmp_path: Path) -> None:
    content = scene()
    content["objects"].append(content["objects"][1] | {"id": 0})
    image = read(tmp_path, {"sa_1.jpg": content})
    assert reasons(image) == [("object 0", "second object of an id")]
    assert image.captions[0].phrases[0].rle.area_px == 6


def test_missing_image_is_counted(tmp_path: Path) -> None:
    assert reasons(read(tmp_path, {"sa_1.jpg": scene()}, with_image=False)) == [("", "no image file")]


def test_damaged_object_is_counted_and_its_phrase_too(tmp_path: Path) -> None:
    content = scene()
    content["objects"][0]["segmentation"] = {"size": [4, 6], "counts": "broken"}
    image = read(tmp_path, {"sa_1.jpg": content})
    assert reasons(image) == [("object 0", "damaged run lengths"), ("caption 0", "phrase without a mask")]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([], "not one scene graph"),
        ({"a.jpg": {}, "b.jpg": {}}, "not one scene graph"),
        ({"sa_1.jpg": {"objects": "none"}}, "objects = 'none'"),
        (
            {"sa_1.jpg": scene(dense_caption={"caption": TEXT, "details": [{"phrase": 3}]})},
            r"details\.0\.phrase",
        ),
        ({"../sa_1.jpg": scene()}, "leaves the folder"),
    ],
)
def test_other_json_is_refused(content: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"sa_1\.json: .*{match}"):
        read(tmp_path, content)


@pytest.mark.parametrize("name", [b"sa_\xff.json", b"sa_1\n.json"])
def test_name_that_no_table_can_hold_is_refused(name: bytes, tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/" + name, "w") as stream:
        json.dump({"sa_1.jpg": scene()}, stream)
    with pytest.raises(DataError, match=r"the name of .*sa_.*json. is not printable UTF-8\. Rename the file"):
        list(grand.read(tmp_path))


def test_synthetic_scene_graph_reads_back_to_the_drawn_masks(tmp_path: Path) -> None:
    drawn = render_scene(scene_generator(1, "test", 3), source="paco_lvis", difficulty=0.3)
    (tmp_path / "grand").mkdir()
    write_image(tmp_path / "grand", index=0, scene=drawn, rng=scene_generator(1, "test", 4))
    (image,) = grand.read(tmp_path / "grand")
    assert image.rejections == ()
    by_label = {}
    for one in drawn.objects:
        by_label[f"the {one.category}"] = one.mask_HW
        by_label |= {f"the {one.category}'s {part.name}": part.mask_HW for part in one.parts}
    assert {phrase.label for phrase in image.captions[0].phrases} == set(by_label)
    for caption in image.captions:
        for phrase in caption.phrases:
            assert np.array_equal(masks.decode(phrase.rle), by_label[phrase.label])


def test_real_scene_graphs_without_captions_are_counted(real_path: Path) -> None:
    images = list(grand.read(real_path / "grand"))
    assert [reasons(image) for image in images] == [[("", "no caption")]] * 2
