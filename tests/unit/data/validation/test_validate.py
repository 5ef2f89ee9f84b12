"""calico.data.validation: a finished data set keeps every rule; broken in one way, it breaks that rule."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calico.config import OwnSource, UnifySection
from calico.core import masks, tables
from calico.core.files import write_json, write_manifest, write_text
from calico.core.pair_rows import write_rows
from calico.core.row_files import rows_path
from calico.data.validation.rules import PROMISES
from calico.data.validation.text_rules import TextLimit
from calico.data.validation.validate import Validation, validate
from calico.errors import DataError
from tests.finished_data import PAIR, SIZE, SPARE, UNIFY, box_mask, edit_rows, write_finished

LIMIT = TextLimit(max_length=512, tokens_per_image=8, tokenizer=None)
Rows = list[dict[str, Any]]


def check(folder: Path, *, unify: UnifySection = UNIFY, text: TextLimit = LIMIT, **pair: Any) -> Validation:
    return validate(folder, unify=unify, pair=PAIR.model_copy(update=pair), text=text)


def broken(found: Validation) -> dict[str, str]:
    """Return the broken rules with everything that is said about them."""
    return {rule.name: "\n".join(rule.lines()) for rule in found.rules if rule.num_violations}


def row_of(rows: Rows, key: str, value: str) -> dict[str, Any]:
    return next(row for row in rows if row[key] == value)


def test_a_finished_data_set_keeps_every_rule(finished: Path) -> None:
    found = check(finished)
    assert broken(found) == {}
    splits = [tables.read_pairs(finished / "pair" / f"{split}.parquet") for split in ("train", "val", "test")]
    pairs = [pair for split in splits for pair in split]
    assert found.num_pairs == len(pairs) == 3 * (12 + 4 + 6)
    assert found.num_images == len({image_id for pair in pairs for image_id in pair.image_ids})
    assert found.num_rules == len(PROMISES)
    checked = {rule.name: rule.num_checked for rule in found.rules}
    parts, objects = (
        len(pq.read_table(finished / "unify" / f"{name}.parquet")) for name in ("parts", "objects")
    )
    num_images = len(tables.read_images(finished / "unify/images.parquet"))
    assert checked["rows"] == len(pairs) + num_images + 1
    assert all(
        checked[rule] == len(pairs) for rule in ("repeats", "limits", "tasks", "conversations", "lengths")
    )
    assert (checked["containment"], checked["areas"], checked["masks"]) == (
        parts, parts + objects, parts + objects + 1,
    )  # fmt: skip
    assert checked["ids"] == len(pairs) + parts + objects + len(
        pq.read_table(finished / "unify/images.parquet")
    )
    assert all(rule.num_checked for rule in found.rules)


def swap(rows: Rows, first: int, second: int) -> None:
    rows[first], rows[second] = rows[second], rows[first]


def set_mask(row: dict[str, Any], rle: masks.Rle) -> None:
    row |= {"rle_counts": rle.counts, "height": rle.height, "width": rle.width}


def measured(row: dict[str, Any], rle: masks.Rle) -> None:
    set_mask(row, rle)
    row |= {"area_px": rle.area_px, "box_xyxy": [int(side) for side in masks.box_xyxy(rle)]}


def spare_image(**values: Any) -> Callable[[Rows], None]:
    return lambda rows: row_of(rows, "image_id", SPARE).update(values)


def spare_part(change: Callable[[dict[str, Any]], None]) -> Callable[[Rows], None]:
    return lambda rows: change(row_of(rows, "part_id", f"{SPARE}#0/ray"))


def first_target(task: str, **values: Any) -> Callable[[Rows], None]:
    return lambda rows: row_of(rows, "task", task)["targets"][0].update(values)


def other_object(rows: Rows) -> None:
    """Name an object of another image."""
    pair = row_of(rows, "task", "common_objects")
    used = {target["object_id"] for target in pair["targets"]}
    others = [target["object_id"] for row in rows for target in row["targets"]]
    pair["targets"][0]["object_id"] = next(other for other in others if other not in used)


def other_order(rows: Rows) -> None:
    swap(row_of(rows, "task", "common_parts")["targets"], 0, 1)


def same_id(rows: Rows) -> None:
    rows[1]["pair_id"] = rows[0]["pair_id"]


HUGE = masks.Rle(SIZE[0], SIZE[1], b"0" * 5)
LARGER = masks.encode(box_mask(4, 20, 2, 7).repeat(2, axis=0))
# The rule and the others that fall with it, the file, the change, and what is said.
BREAKS: list[tuple[str, str, Callable[[Rows], None], str]] = [
    ("ids", "pair/val.parquet", same_id, r"pair 'a/common_objects/.*': another pair has this id"),
    ("images", "unify/images.parquet", spare_image(path="../../../etc/passwd"),
     r"image 'a/spare' has the file '../../../etc/passwd', which is not in /.*/sources\."),
    ("images", "unify/images.parquet", spare_image(path=""), "has the file ''"),
    ("images", "unify/images.parquet", spare_image(path="/etc/passwd"), "has the file '/etc/passwd'"),
    ("references", "unify/parts.parquet", spare_part(lambda row: row.update(object_id="nothing")),
     r"unify/parts.parquet: 'a/spare#0/ray' names the object 'nothing', which does not exist"),
    ("references", "unify/captions.parquet", lambda rows: rows[0].update(image_id="nowhere"),
     r"caption 0 of 'nowhere': this image does not exist"),
    ("references", "pair/test.parquet", first_target("common_parts", part_id="nothing"),
     r"pair/test.parquet: pair 'a/common_parts/.*': part 'nothing' does not exist"),
    ("references", "pair/test.parquet", first_target("common_parts", part_id=f"{SPARE}#0/ray"),
     r"part 'a/spare#0/ray' is not of object 'a/test-.*#0'"),
    ("references", "pair/val.parquet", first_target("common_objects", object_id="nothing"),
     "object 'nothing' does not exist"),
    ("references", "pair/val.parquet", other_object, r"object 'a/val-\d#0' is not in image 0"),
    ("references conversations", "pair/val.parquet", first_target("unique_parts", image_index=7),
     "names image 7 of 2"),
    ("conversations references", "pair/val.parquet", first_target("unique_parts", image_index=7),
     r"the answer .* \(IMAGE8\).* is read back as nothing"),
    ("masks", "unify/parts.parquet", spare_part(lambda row: set_mask(row, HUGE)),
     r"unify/parts.parquet: 'a/spare#0/ray': RLE runs cover 0 pixels, but the mask has 24 x 40 = 960"),
    ("masks", "unify/parts.parquet", spare_part(lambda row: measured(row, LARGER)),
     "the mask is 48 x 40, its image 24 x 40"),
    ("masks", "unify/captions.parquet", lambda rows: set_mask(rows[0]["phrases"][0], LARGER),
     "caption 0 of 'a/spare', phrase 'sun': the mask is 48 x 40"),
    ("areas", "unify/parts.parquet", spare_part(lambda row: row.update(area_px=81)),
     r"'a/spare#0/ray': states 81 pixels in \[2, 4, 7, 20\], its mask has 80 in \[2, 4, 7, 20\]"),
    ("areas", "unify/objects.parquet",
     lambda rows: row_of(rows, "object_id", f"{SPARE}#0").update(box_xyxy=[0, 0, 1, 1]),
     "its mask has 320 in"),
    ("areas", "unify/parts.parquet",
     spare_part(lambda row: measured(row, masks.encode(box_mask(4, 5, 4, 7)))),
     "3 pixels are fewer than the 4"),
    ("containment", "unify/parts.parquet",
     spare_part(lambda row: measured(row, masks.encode(box_mask(4, 20, 19, 33)))),
     r"'a/spare#0/ray': 21% of it lie in 'a/spare#0'"),
    ("leaks", "unify/images.parquet", spare_image(path="a/train-0.png"),
     r"image 'a/spare' of val is the file of 'a/train-0' of train"),
    ("tasks", "pair/train.parquet", other_order,
     r"pair/train.parquet: pair 'a/common_parts/.*': its . targets stand in another order"),
    ("tasks", "pair/train.parquet", first_target("common_objects", label="wolf"), "has 'wolf' too much"),
    ("tasks counts", "pair/train.parquet", lambda rows: rows[0].update(source="c"), "not two of its source"),
    ("tasks counts", "pair/train.parquet", lambda rows: rows[0].update(task="colours"),
     "there is no task 'colours'"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "file", "change", "words"), BREAKS)
def test_a_broken_rule_is_named_with_file_and_id(
    rules: str, file: str, change: Callable[[Rows], None], words: str, data_set: Path
) -> None:
    edit_rows(data_set / file, change)
    found = broken(check(data_set))
    assert set(found) == set(rules.split())
    said = found[rules.split(maxsplit=1)[0]]
    assert re.search(words, said)
    assert file in said


def test_a_changed_file_is_named(data_set: Path) -> None:
    write_text(data_set / "pair" / "plots" / "parts.csv", "name,count\n")
    found = broken(check(data_set))
    assert set(found) == {"files"}
    assert "pair/plots/parts.csv: changed after its stage wrote it" in found["files"]
    (data_set / "pair" / "plots" / "parts.csv").unlink()
    assert "pair/plots/parts.csv: missing" in broken(check(data_set))["files"]


@pytest.mark.parametrize("text", ["[]", "{", '{"files": [1]}', '{"files": {"a": 1}}', '{"files": {"a": {}}}'])
def test_a_damaged_manifest_is_named(text: str, data_set: Path) -> None:
    (data_set / "curate" / "manifest.json").write_text(text)
    found = broken(check(data_set))
    assert set(found) == {"files"}
    assert "curate/manifest.json: missing or no manifest" in found["files"]


def test_a_manifest_that_points_outside_reads_nothing(data_set: Path) -> None:
    write_json(data_set / "curate" / "manifest.json", {"files": {"../../secret": {"sha256": "0"}}})
    assert "'../../secret' leaves the folder" in broken(check(data_set))["files"]


def rename_column(table: pa.Table) -> pa.Table:
    return table.rename_columns(["name" if name == "category" else name for name in table.column_names])


def other_type(table: pa.Table) -> pa.Table:
    return table.set_column(0, table.column_names[0], pa.array([1] * len(table)))


def with_gap(table: pa.Table) -> pa.Table:
    rows = table.to_pylist()
    rows[0][table.column_names[1]] = None
    return pa.Table.from_pylist(rows, schema=table.schema)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (rename_column, "unify/parts.parquet: category is None, not string, name is string, not None"),
        (other_type, "unify/parts.parquet: part_id is int64, not string"),
        (with_gap, "unify/parts.parquet: column object_id has empty cells"),
    ],
)
def test_other_columns_stop_all_rules_but_two(
    change: Callable[[pa.Table], pa.Table], words: str, data_set: Path
) -> None:
    path = data_set / "unify" / "parts.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    write_manifest(path.parent)
    found = check(data_set)
    assert words in broken(found)["schema"]
    assert (found.num_rules, found.num_pairs) == (2, 0)
    assert "not checked" in "".join(found.rules[2].lines())


@pytest.mark.parametrize(
    ("targets", "words"), [(None, "column targets has"), ([{"label": "x"}], "column targets.image_index has")]
)
def test_a_gap_in_a_pair_is_found_inside_lists(targets: Any, words: str, data_set: Path) -> None:
    edit_rows(data_set / "pair" / "val.parquet", lambda rows: rows[2].update(targets=targets))
    found = broken(check(data_set))
    assert set(found) == {"schema"}
    assert f"pair/val.parquet: {words} empty cells" in found["schema"]


def test_two_rows_of_one_id_are_named(data_set: Path) -> None:
    edit_rows(data_set / "unify" / "parts.parquet", lambda rows: rows.append(dict(rows[0])))
    found = broken(check(data_set))
    assert set(found) == {"ids", "counts"}
    assert re.search(r"unify/parts.parquet: 'a/train-0#0/.*' stands for 2 rows", found["ids"])
    assert "is a second" in found["ids"]


def test_pairs_in_the_wrong_split_leak(data_set: Path) -> None:
    """Two pairs with as many targets change places, so that every count stays."""
    paths = [data_set / "pair" / f"{split}.parquet" for split in ("train", "val")]
    train, val = (pq.read_table(path).to_pylist() for path in paths)
    place, other = next(
        (i, j)
        for i, one in enumerate(train)
        for j, two in enumerate(val)
        if (one["source"], one["task"], len(one["targets"]))
        == (two["source"], two["task"], len(two["targets"]))
    )
    edit_rows(paths[0], lambda rows: rows.__setitem__(place, val[other]))
    edit_rows(paths[1], lambda rows: rows.__setitem__(other, train[place]))
    found = broken(check(data_set))
    assert set(found) == {"leaks"}
    assert f"pair/val.parquet: pair '{train[place]['pair_id']}': image" in found["leaks"]
    assert "belongs to train" in found["leaks"]
    assert "4 violations" in found["leaks"]


def test_a_pair_turned_around_is_the_same_pair(data_set: Path) -> None:
    def turn(rows: Rows) -> None:
        of_task = [row for row in rows if row["task"] == "common_parts"]
        one, two = next(
            (one, two)
            for one in of_task
            for two in of_task
            if one is not two
            and one["source"] == two["source"]
            and len(one["targets"]) == len(two["targets"])
        )
        turned = [row | {"image_index": 1 - row["image_index"]} for row in one["targets"]]
        two["image_ids"] = one["image_ids"][::-1]
        two["targets"] = [turned[place ^ 1] for place in range(len(turned))]

    edit_rows(data_set / "pair" / "train.parquet", turn)
    found = broken(check(data_set))
    assert set(found) - {"counts"} == {"repeats"}
    assert re.search(
        "pair/train.parquet: pair '.*': another pair shows the same two images", found["repeats"]
    )


def test_more_targets_than_allowed_are_named(finished: Path) -> None:
    found = broken(check(finished, max_targets=2))
    assert set(found) == {"limits"}
    assert re.search(r"pair/.*parquet: pair '.*': [3-8] targets; pair.max_targets is 2", found["limits"])


def test_a_target_that_comes_twice_is_named(data_set: Path) -> None:
    def repeat(rows: Rows) -> None:
        rows[0]["targets"][1] = rows[0]["targets"][0]

    edit_rows(data_set / "pair" / "test.parquet", repeat)
    found = broken(check(data_set))
    assert set(found) == {"limits", "tasks"}
    assert "one mask is a target twice" in found["limits"]


def test_a_pair_without_targets_is_named(data_set: Path) -> None:
    edit_rows(data_set / "pair" / "test.parquet", lambda rows: rows[0].update(targets=[]))
    found = broken(check(data_set))
    assert set(found) == {"limits", "tasks", "counts"}
    assert "0 targets" in found["limits"]


def test_pairs_of_categories_that_may_not_be_compared_are_named(data_set: Path) -> None:
    path = data_set / "curate" / "category_pairs.csv"
    write_text(path, path.read_text().replace(",yes,", ",no,"))
    write_manifest(path.parent)
    found = broken(check(data_set))
    assert set(found) == {"tasks"}
    assert "its images give none: no comparable objects" in found["tasks"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("a,cat,dog,body;head", "a,cat,dog,body", "common parts body; their objects share body, head"),
        ("b,cat,dog", "a,cat,dog", "'cat' and 'dog' of a: listed twice"),
        ("b,cat,dog", "b,cat,wolf", "'cat' and 'wolf' of b: no object of one of them has parts"),
    ],
)
def test_a_wrong_category_pair_is_named(old: str, new: str, words: str, data_set: Path) -> None:
    path = data_set / "curate" / "category_pairs.csv"
    write_text(path, path.read_text().replace(old, new))
    write_manifest(path.parent)
    found = broken(check(data_set))
    assert set(found) - {"tasks"} == {"categories"}
    assert words in found["categories"]
    assert "curate/category_pairs.csv" in found["categories"]


@pytest.mark.parametrize(
    ("dog", "words"),
    [
        ("dog </p>", "holds a marker of the answer grammar"),
        ("big  dog", "is empty or holds stray spaces"),
    ],
)
def test_a_name_that_answers_cannot_hold_is_named(dog: str, words: str, tmp_path: Path) -> None:
    write_finished(tmp_path, dog=dog)
    found = broken(check(tmp_path))
    assert set(found) == {"conversations"}
    assert words in found["conversations"]
    assert "pair/train.parquet: pair 'a/common_objects/" in found["conversations"]


def test_wrong_counts_are_named(data_set: Path) -> None:
    for name in ("pair/statistics.json", "unify/summary.json"):
        text = (data_set / name).read_text()
        write_text(
            data_set / name,
            text.replace('"num_pairs": 66', '"num_pairs": 65').replace('"images": 12', '"images": 11'),
        )
        write_manifest((data_set / name).parent)
    found = broken(check(data_set))
    assert set(found) == {"counts"}
    assert "pair/statistics.json: all.num_pairs is 65, the files hold 66" in found["counts"]
    assert "unify/summary.json: counts.a.train.images is 11, the files hold 12" in found["counts"]


def test_a_quota_that_is_not_filled_is_named(finished: Path) -> None:
    found = broken(check(finished, num_pairs=PAIR.num_pairs.model_copy(update={"val": 5})))
    assert set(found) == {"counts"}
    assert (
        "pair/val.parquet: 4 pairs of common_objects and 0 counted as missing, but pair.num_pairs.val is 5"
        in found["counts"]
    )


def test_only_the_first_offenders_are_named(data_set: Path) -> None:
    edit_rows(
        data_set / "unify" / "objects.parquet", lambda rows: [row.update(area_px=1) for row in rows] and None
    )
    said = broken(check(data_set))["areas"].splitlines()
    assert len(said) == 1 + 3 + 1
    assert re.search("and 46 more", said[-1])


def test_own_images_may_lie_in_their_own_folder(data_set: Path, tmp_path: Path) -> None:
    path = os.path.relpath(tmp_path / "photos" / "spare.png", data_set / "sources")
    edit_rows(data_set / "unify" / "images.parquet", spare_image(path=path))
    assert set(broken(check(data_set))) == {"images"}
    own = OwnSource.model_validate(
        {"kind": "coco", "name": "own", "annotations": "x.json", "images": str(tmp_path / "photos"),
         "split": "train", "part_link": None}
    )  # fmt: skip
    assert broken(check(data_set, unify=UNIFY.model_copy(update={"own_sources": [own]}))) == {}


@pytest.mark.parametrize("name", ["unify/objects.parquet", "curate/category_pairs.csv", "pair/test.parquet"])
def test_an_unfinished_data_set_is_an_error_that_says_what_to_run(name: str, data_set: Path) -> None:
    (data_set / name).unlink()
    stage = name.split("/", maxsplit=1)[0]
    with pytest.raises(DataError, match=rf"{name}: no such file. Run the stage '{stage}'"):
        check(data_set)


def test_another_row_for_training_is_named(data_set: Path) -> None:
    path = data_set / "pair" / "val.parquet"
    pairs = tables.read_pairs(path)
    write_rows(rows_path(path), [*pairs[:3], replace(pairs[3], pair_id="wolf"), *pairs[4:]])
    write_manifest(path.parent)
    assert "pair/rows/val: row 3 is another than in val.parquet" in broken(check(data_set))["rows"]
    write_rows(rows_path(path), pairs[1:])
    assert "11 rows, val.parquet has 12" in broken(check(data_set))["rows"]


def test_other_images_and_captions_for_training_are_named(data_set: Path) -> None:
    folder = data_set / "unify"
    images = tables.read_images(folder / "images.parquet")
    as_before = {name: (folder / name).read_bytes() for name in ("images.parquet", "captions.parquet")}
    tables.write_images(folder / "images.parquet", [replace(images[0], path="wolf.png"), *images[2:]])
    tables.write_captions(folder / "captions.parquet", [tables.CaptionRecord(SPARE, "a wolf", ())])
    for name, content in as_before.items():
        (folder / name).write_bytes(content)
    write_manifest(folder)
    found = broken(check(data_set))
    assert set(found) == {"rows"}
    for words in (
        f"unify/rows/images: {len(images) - 1} rows, images.parquet has {len(images)}",
        f"unify/rows/images: row {images[0].image_id} is another than in images.parquet",
        f"unify/rows/images: lacks '{images[1].image_id}'",
        "and 1 more",
    ):
        assert words in found["rows"]
    tables.write_images(folder / "images.parquet", images)
    write_manifest(folder)
    words = "unify/rows/captions: row 0 is another than in captions.parquet"
    assert words in broken(check(data_set))["rows"]


FILES = [
    "unify/images.parquet", "unify/objects.parquet", "unify/parts.parquet", "unify/captions.parquet",
    "unify/rows/captions/phrases.bin", "unify/rows/images/rows.bin", "unify/rows/images/bytes.bin",
    "unify/summary.json", "curate/category_pairs.csv", "pair/train.parquet", "pair/statistics.json",
    "pair/rows/train/names.parquet", "pair/rows/train/rows.bin", "pair/rows/train/ids.bin",
    "pair/rows/train/images.bin", "pair/rows/train/targets.bin",
]  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), start=st.floats(0, 1), noise=st.binary(min_size=1, max_size=40))
def test_damaged_bytes_are_a_violation_never_a_crash(
    name: str, start: float, noise: bytes, finished: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("damaged") / "tiny")
    content = bytearray((folder / name).read_bytes())
    place = int(start * (len(content) - 1))
    content[place : place + len(noise)] = noise
    (folder / name).write_bytes(content)
    found = check(folder)
    is_same = bytes(content) == (finished / name).read_bytes()
    assert ("files" in broken(found)) != is_same


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_wild_values_are_a_violation_never_a_crash(
    data: st.DataObject, finished: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("wild") / "tiny")
    name = data.draw(
        st.sampled_from([name for name in FILES if name.endswith(".parquet") and "names" not in name])
    )
    schema = pq.read_schema(folder / name)
    column = data.draw(st.sampled_from(schema.names))
    value = data.draw(_values(schema.field(column).type))
    edit_rows(folder / name, lambda rows: rows[-1].update({column: value}))
    check(folder)


def _values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_struct(kind):
        return st.fixed_dictionaries({field.name: _values(field.type) for field in kind})
    if pa.types.is_fixed_size_list(kind):
        return st.lists(_values(kind.value_type), min_size=kind.list_size, max_size=kind.list_size)
    if pa.types.is_list(kind):
        return st.lists(_values(kind.value_type), max_size=4)
    if pa.types.is_integer(kind):
        bits = 31 if kind == pa.int32() else 63
        return st.integers(-(2**bits), 2**bits - 1)
    if pa.types.is_binary(kind):
        return st.binary(max_size=12)
    return st.text(max_size=12)
