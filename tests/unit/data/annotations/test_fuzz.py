"""Damaged annotation files of every source: a DataError that names a file, or counted rejections.

Each example replaces, removes, renames or doubles one value anywhere in one file, and unifies the source. No
file outside the folders of images and annotations may be opened, whatever `file_name` says.
"""

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from calico.config import UnifySection
from calico.core import files, masks, tables
from calico.core.files import read_json
from calico.data.annotations.unify import unify
from calico.errors import DataError

NUM_EXAMPLES = 60
HEIGHT, WIDTH = 8, 9
POLYGON = [[0, 0, 6, 0, 6, 6, 0, 6]]
UNCOMPRESSED = {"size": [HEIGHT, WIDTH], "counts": [0, 40, 32]}
COMPRESSED = {"size": [HEIGHT, WIDTH], "counts": masks.encode(np.ones((HEIGHT, WIDTH), bool)).counts.decode()}


def coco(
    file_name: str, categories: list[dict[str, Any]], annotations: list[dict[str, Any]]
) -> dict[str, Any]:
    images = [{"id": 1, "file_name": file_name, "height": HEIGHT, "width": WIDTH}]
    rows = [{"id": number, "image_id": 1, **row} for number, row in enumerate(annotations, start=1)]
    return {"images": images, "annotations": rows, "categories": categories}


def annotation(category_id: int, segmentation: Any, **fields: Any) -> dict[str, Any]:
    return {"category_id": category_id, "segmentation": segmentation, **fields}


PACO = coco(
    "train2017/1.png",
    [{"id": 1, "name": "chair"}, {"id": 2, "name": "chair:leg"}],
    [annotation(1, COMPRESSED, obj_ann_id=1), annotation(2, UNCOMPRESSED, obj_ann_id=1)],
)
PARTIMAGENET = coco(
    "n02085782_1.png",
    [{"id": 0, "name": "Quadruped Head", "supercategory": "Quadruped"}],
    [annotation(0, POLYGON), annotation(0, [[1, 1, 3, 3]])],
)
WHOLE = coco("n02085782_1.png", [{"id": 0, "name": "dog"}], [annotation(0, POLYGON)])
ADE = coco("ADE_1.png", [{"id": 7, "name": "car"}], [annotation(7, POLYGON, part_category_id=[132, 133])])
OWN = coco(
    "a/1.png",
    [{"id": 1, "name": "toy"}, {"id": 2, "name": "toy:lid"}],
    [annotation(1, POLYGON, iscrowd=0), annotation(2, UNCOMPRESSED, iscrowd=False)],
)
CAPTION = {
    "caption": "A dog.",
    "details": [{"phrase": "A dog", "tokens_positive": [0, 5], "ids": [0], "id": 0}],
}
GRAND = {
    "sa_1.png": {
        "objects": [{"id": 0, "segmentation": UNCOMPRESSED}],
        "dense_caption": CAPTION,
        "short_captions": [CAPTION],
    }
}
EMPTY = {"images": [], "annotations": [], "categories": []}


FILES = {
    "paco_lvis/annotations/paco_lvis_v1_train.json": PACO,
    "partimagenet/annotations/train/train.json": PARTIMAGENET,
    "ade20k_part_234/ADE20KPart234/ade20k_instance_train.json": ADE,
    "grand/sa_1.json": GRAND,
    "mixed_parts/PartImageNet/annotations/train/train_mixed_parts.json": PARTIMAGENET,
    "mixed_parts/PartImageNet/annotations/train_whole/train_mixed_parts.json": WHOLE,
    "mixed_parts/ADE20KPart234/ade20k_instance_train_mixed_parts.json": ADE,
    "own/own.json": OWN,
}
EMPTY_FILES = [
    *(f"paco_lvis/annotations/paco_lvis_v1_{split}.json" for split in ("val", "test")),
    *(f"partimagenet/annotations/{split}/{split}.json" for split in ("val", "test")),
    "ade20k_part_234/ADE20KPart234/ade20k_instance_val.json",
    *(
        f"mixed_parts/PartImageNet/annotations/{split}{whole}/{split}_mixed_parts.json"
        for split in ("val", "test")
        for whole in ("", "_whole")
    ),
    "mixed_parts/ADE20KPart234/ade20k_instance_val_mixed_parts.json",
]
IMAGES = (
    "paco_lvis/coco/train2017/1.png",
    "partimagenet/images/train/n02085782_1.png",
    "ade20k_part_234/ADE20KPart234/images/training/ADE_1.png",
    "grand/sa_1.png",
    "own/a/1.png",
)
PART_MAP = "ade20k_part_234/ADE20KPart234/annotations_detectron2_part/training/ADE_1.png"

OPENED: list[str] = []
RECORDING = threading.Event()


def record(event: str, arguments: tuple[Any, ...]) -> None:
    """Note which files are opened while a reader runs; an audit hook cannot be removed again."""
    if event == "open" and RECORDING.is_set():
        OPENED.append(str(arguments[0]))


sys.addaudithook(record)


@pytest.fixture(scope="module", autouse=True)
def no_fsync() -> Iterator[None]:
    """Power cuts are tested elsewhere; waiting for the disk is most of the time here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "fsync", lambda path: None)
        yield


@pytest.fixture(scope="module")
def sources_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All sources with one image each; beside them what no reader may open."""
    folder = tmp_path_factory.mktemp("fuzz") / "sources"
    for name in IMAGES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name)
    (folder / PART_MAP).parent.mkdir(parents=True)
    Image.fromarray(np.full((HEIGHT, WIDTH), 132, dtype=np.uint16)).save(folder / PART_MAP)
    for name in EMPTY_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(EMPTY))
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    for place in (folder, folder.parent, *(folder / name for name in ("paco_lvis", "grand", "own/.."))):
        Image.new("RGB", (WIDTH, HEIGHT)).save(place / "secret.png")
    return folder


def section_for(name: str, folder: Path, part_link: str | None = None) -> UnifySection:
    source = name.partition("/")[0]
    own = {
        "kind": "coco", "name": "toys", "split": "by_image", "part_link": part_link,
        "annotations": str(folder / "own" / "own.json"), "images": str(folder / "own"),
    }  # fmt: skip
    values = {"sources": [source], "own_sources": [], "min_object_area_px": 4, "min_part_area_px": 4}
    if source in ("own", "grand"):
        values |= {"sources": [], "own_sources": [own]}
    return UnifySection.model_validate(values)


def run(name: str, text: str, folder: Path, part_link: str | None = None) -> str | None:
    """Unify with one file replaced; return the DataError's text, None for success."""
    path = folder / name
    before = path.read_text()
    path.write_text(text)
    OPENED.clear()
    RECORDING.set()
    try:
        unify(section_for(name, folder, part_link), folder, folder.parent / "out")
    except DataError as error:
        return str(error)
    finally:
        RECORDING.clear()
        path.write_text(before)
        assert not [opened for opened in OPENED if "secret" in opened or opened.startswith("/etc")]
    return None


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value in a JSON tree."""
    yield place
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for step, child in children:
        yield from places(child, (*place, step))


def changed(value: Any, place: tuple[Any, ...], replacement: Any, kind: str) -> Any:
    """Return a copy of a JSON tree with one value replaced, removed or doubled."""
    copy = json.loads(json.dumps(value))
    if not place:
        return replacement
    parent = copy
    for step in place[:-1]:
        parent = parent[step]
    if kind == "remove":
        del parent[place[-1]]
    elif kind == "double" and isinstance(parent, list):
        parent.append(parent[place[-1]])
    elif kind == "rename" and isinstance(parent, dict) and isinstance(replacement, str):
        parent[replacement] = parent.pop(place[-1])
    else:
        parent[place[-1]] = replacement
    return copy


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


NASTY = [
    None, True, False, -1, 0, 1, 2, 8, 9, 99, 2**31, 2**63, 10**30, -(10**30), 0.5, 1e308, float("nan"),
    float("inf"), "", " ", "x", "1", "../secret.png", "../../secret.png", "../../../secret.png",
    "/etc/passwd", "a/../../secret.png", "a\\..\\secret.png", "a\0b", "\ud800", "[SEG]", "<p>", "(IMAGE1)",
    "dog\u202e", "y" * 300, "z/" * 700, "n02085782", "W0", "99999999", "````", "é",
    [], {}, [[]], [[1]], [[1, 2]], [[1, 2, 3, 4]], [[1, 2, 3]], [[float("nan")] * 6], [[1e9] * 6],
    [[-1e9, 0, 1e9, 0, 0, 1e9]], [["1"] * 6], [[None] * 6], [[1e5, -1e5] * 9],
    *({"size": [HEIGHT, WIDTH], "counts": counts}
      for counts in ([72], "0" * 50, [10**12], [-5, 77], "", "oooooooooooo", [0] * 99 + [72], [1.0, 71.0])),
    {"size": [10**6, 10**6], "counts": [10**12]}, {"size": [0, 0], "counts": []}, {"size": "x", "counts": {}},
]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(NASTY),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.fixed_dictionaries(
        {
            "size": st.just([HEIGHT, WIDTH]),
            "counts": st.text(st.characters(min_codepoint=48, max_codepoint=111)),
        }
    ),
    st.lists(st.lists(st.floats(), max_size=8), max_size=3),
)


def test_undamaged_files_are_read(sources_path: Path) -> None:
    for name, content in FILES.items():
        assert run(name, json.dumps(content), sources_path) is None
        assert tables.read_images(sources_path.parent / "out" / "images.parquet")


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=NUM_EXAMPLES)
@given(draw=st.data())
def test_one_wrong_value_is_named_or_counted(name: str, draw: st.DataObject, sources_path: Path) -> None:
    content = FILES[name]
    place = draw.draw(st.sampled_from(list(places(content))))
    kind = draw.draw(st.sampled_from(["replace", "replace", "replace", "remove", "double", "rename"]))
    part_link = draw.draw(st.sampled_from([None, "iscrowd", "id"])) if name.startswith("own") else None
    damaged = changed(content, place, draw.draw(VALUES), kind)
    fault = run(name, json.dumps(damaged), sources_path, part_link)
    if fault is None:
        check_tables(sources_path.parent / "out")
    else:
        assert str(sources_path) in fault, "the error names a file"
        assert len(fault) < 3000


def check_tables(out: Path) -> None:
    """What was written is whole: masks decode, parts have objects, and what is missing was counted."""
    summary = read_json(out / "summary.json")
    sizes = {
        image.image_id: (image.height, image.width) for image in tables.read_images(out / "images.parquet")
    }
    objects = {one.object_id: one for one in tables.read_objects(out / "objects.parquet")}
    for one in [*objects.values(), *tables.read_parts(out / "parts.parquet")]:
        assert masks.decode(one.rle).shape == sizes[one.image_id]
        assert one.object_id in objects
    rejected = tables.read_rejected(out / "rejected.parquet")
    assert sum(sum(reasons.values()) for reasons in summary["rejected"].values()) == len(rejected)
    assert all(one.file and one.reason for one in rejected)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[" * 100_000, '{"a":' * 100_000, "nul", "\ufeff{}", "\udcff",
        '{"images": [' + "9" * 5000 + "]}",
        json.dumps(nested(400)), json.dumps({"images": nested(900), "annotations": [], "categories": []}),
        json.dumps({"sa_1.png": {"objects": nested(900)}}), "NaN", "-Infinity", '"text"', "[]", "{}",
    ],
    ids=str,
)  # fmt: skip
def test_other_files_are_refused(name: str, text: str, sources_path: Path) -> None:
    path = sources_path / name
    before = path.read_bytes()
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    try:
        with pytest.raises(DataError, match=path.name):
            unify(section_for(name, sources_path), sources_path, sources_path.parent / "out")
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("depth", [500, 900, 960, 980, 990, 5000])
@pytest.mark.parametrize("field", ["segmentation", "category_id", "bbox"])
def test_deep_nesting_of_one_value_is_no_crash(depth: int, field: str, sources_path: Path) -> None:
    """Some of these depths json reads, but nothing that walks over the value again can."""
    damaged = changed(PACO, ("annotations", 0, field), "HERE", "replace")
    text = json.dumps(damaged).replace('"HERE"', "[" * depth + "]" * depth)
    fault = run("paco_lvis/annotations/paco_lvis_v1_train.json", text, sources_path)
    assert fault is None or "paco_lvis_v1_train.json" in fault
