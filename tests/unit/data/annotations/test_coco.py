"""calico.data.annotations.coco and raw_json: a file that contradicts itself is refused with file and id."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calico.data.annotations.coco import CocoCategory, read_coco
from calico.data.annotations.raw_json import check_record
from calico.errors import DataError


def coco(**changes: Any) -> dict[str, Any]:
    """Return a correct file with some lists replaced."""
    content: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "train2017/000001.jpg", "height": 4, "width": 6, "license": 3}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 2, "segmentation": [], "obj_ann_id": 5}],
        "categories": [{"id": 2, "name": "dog", "supercategory": "OBJECT"}],
    }
    return content | changes


def write(folder: Path, content: Any) -> Path:
    path = folder / "file.json"
    path.write_text(json.dumps(content))
    return path


def test_correct_file_is_read(tmp_path: Path) -> None:
    content = read_coco(write(tmp_path, coco(info="anything")))
    assert [image.file_name for image in content.images] == ["train2017/000001.jpg"]
    assert content.categories[2].name == "dog"
    assert [annotation.id for annotation in content.annotations[1]] == [5]


IMAGE = coco()["images"][0]
ANNOTATION = coco()["annotations"][0]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"images": [IMAGE, IMAGE]}, r"file\.json: two images have id 1"),
        ({"annotations": [ANNOTATION, ANNOTATION]}, "two annotations have id 5"),
        ({"categories": coco()["categories"] * 2}, "two categories have id 2"),
        ({"annotations": [ANNOTATION | {"image_id": 9}]}, "annotation 5 names image 9 and category 2"),
        ({"annotations": [ANNOTATION | {"category_id": 9}]}, "annotation 5 names image 1 and category 9"),
        ({"images": [IMAGE | {"file_name": "../../etc/passwd"}]}, "'../../etc/passwd' leaves the folder"),
        ({"images": [IMAGE | {"file_name": "/etc/passwd"}]}, "leaves the folder"),
        ({"images": [IMAGE | {"file_name": "a\\..\\b.jpg"}]}, "leaves the folder"),
        ({"images": [IMAGE | {"file_name": ""}]}, "leaves the folder"),
        (
            {"images": [IMAGE | {"height": -4}]},
            r"images\.0\.height \(id 1\) = '-4': input should be greater than 0",
        ),
        ({"images": [IMAGE | {"width": 10**9}]}, r"images\.0\.width \(id 1\) = '1000000000'"),
        (
            {"images": [IMAGE | {"height": "4"}]},
            r"images\.0\.height \(id 1\) = '4': input should be a valid integer",
        ),
        ({"images": [IMAGE | {"id": True}]}, r"images\.0\.id \(id True\) = 'True'"),
        ({"images": {}}, r"images = '\{\}'"),
        ({"annotations": [None]}, r"annotations\.0 = 'None'"),
        ({"categories": [{"id": 2}]}, r"categories\.0\.name \(id 2\) = .*field required"),
        (
            {"images": [IMAGE | {"height": 9000, "width": 9000}]},
            "image 1 has 9000 x 9000 pixels, more than 64",
        ),
        ({"images": [IMAGE | {"file_name": "a" * 241}]}, r"'aaaaa.*aaa' is too long"),
        ({"images": [IMAGE | {"file_name": "a/" * 600 + "b"}]}, "is too long"),
        ({"images": [IMAGE | {"file_name": "a\0b"}]}, "leaves the folder"),
        ({"images": [IMAGE | {"file_name": "\ud800.jpg"}]}, r"file_name \(id 1\) = '.*unpaired surrogate"),
        (
            {"categories": [{"id": 2, "name": "a [SEG]"}]},
            r"category 2 is named 'a \[SEG\]'; a name is printable",
        ),
        ({"categories": [{"id": 2, "name": "dog\n"}]}, r"category 2 is named 'dog\\n'"),
        ({"categories": [{"id": 2, "name": " "}]}, "category 2 is named ' '"),
        (
            {"annotations": [ANNOTATION | {"obj_ann_id": 1.5}]},
            r"annotations\.0\.obj_ann_id \(id 5\) = '1\.5'",
        ),
    ],
)
def test_contradictions_are_named(changes: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=match):
        read_coco(write(tmp_path, coco(**changes)))


def test_number_of_faults_is_told_and_the_list_is_short(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"50 wrong field\(s\) \(the first 3 shown\): ") as raised:
        read_coco(write(tmp_path, coco(annotations=[3] * 50)))
    assert len(str(raised.value)) < 500


def test_damaged_json_is_named_and_not_to_be_deleted(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"images": [')
    with pytest.raises(DataError, match=r"mine\.json: not a JSON file \(.*char 12\)\)\. Get the file"):
        read_coco(path)
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        read_coco(tmp_path)


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = write(tmp_path, coco())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_coco(path) == read_coco(write(tmp_path, coco()))


def test_named_link_takes_the_place_of_pacos(tmp_path: Path) -> None:
    path = write(tmp_path, coco(annotations=[ANNOTATION | {"parent": 9}]))
    assert read_coco(path).annotations[1][0].obj_ann_id == 5
    assert read_coco(path, link_field="parent").annotations[1][0].obj_ann_id == 9
    assert read_coco(path, link_field="owner").annotations[1][0].obj_ann_id is None


def test_wrong_link_is_named_as_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, coco(annotations=[ANNOTATION | {"parent": 9.5}]))
    with pytest.raises(
        DataError, match=r"annotations\.0\.parent \(id 5\) = '9\.5': input should be a valid int"
    ):
        read_coco(path, link_field="parent")
    assert read_coco(path).annotations[1][0].obj_ann_id == 5


def test_value_of_any_depth_is_shown_short() -> None:
    """json reads no such depth, but values get near what `repr` can walk."""
    value: Any = []
    for _ in range(5000):
        value = [value]
    with pytest.raises(DataError, match=r"file\.json: 2 wrong field\(s\): id = '\[\[\[\[.*\.\.\.") as raised:
        check_record({"id": value, "name": 3}, CocoCategory, Path("file.json"))
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("content", [None, 3, [], "text", {}])
def test_other_json_is_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="wrong field"):
        read_coco(write(tmp_path, content))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["id", "image_id", "category_id", "file_name", "height", "width", "name"]), inner
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=60)
@given(name=st.sampled_from(["images", "annotations", "categories"]), value=JSON)
def test_fuzzed_lists_are_read_or_refused(
    name: str, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("fuzz"), coco(**{name: value}))
    message = "file.json"
    try:
        read_coco(path)
    except DataError as error:
        message = str(error)
    assert "file.json" in message
