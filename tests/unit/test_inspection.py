"""calico.inspection: any pair drawn with what it says, found without reading the others."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calico.config import Config, OwnSource, load_config
from calico.core import tables
from calico.core.masks import box_xyxy
from calico.core.tokens import TASKS
from calico.data.pairs.conversation import parse_answer
from calico.errors import DataError
from calico.inspection import Inspection, PairPlace
from calico.reporting.overlays import assign_colours
from tests.finished_data import SIZE, edit_rows, write_finished

SIDE_PX = 640


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config("tiny")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_finished(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_some_of_each_task_are_chosen_by_the_seed(folder: Path, config: Config) -> None:
    inspection = Inspection(config, folder)
    pairs = tables.read_pairs(folder / "pair" / "train.parquet")
    places = inspection.choose("train")
    assert [pairs[place.row].task for place in places] == [task for task in TASKS for _ in range(4)]
    assert len(set(places)) == 12
    assert places == Inspection(config, folder).choose("train")
    other = config.model_copy(update={"report": config.report.model_copy(update={"seed": 62})})
    assert places != Inspection(other, folder).choose("train")
    assert inspection.count("train") == len(pairs) == 36


def test_pairs_are_found_in_any_split(folder: Path, config: Config) -> None:
    wanted = {
        tables.read_pairs(folder / "pair" / f"{split}.parquet")[row].pair_id: PairPlace(split, row)
        for split, row in (("test", 5), ("train", 30), ("val", 0))
    }
    assert Inspection(config, folder).find(list(wanted)) == list(wanted.values())
    with pytest.raises(DataError, match=r"no pair 'nothing' \(pairs searched: train 36, val 12, test 18\)"):
        Inspection(config, folder).find(["nothing"])


def test_a_drawn_pair_says_and_shows_its_targets(folder: Path, config: Config) -> None:
    inspection = Inspection(config, folder)
    rles = {part.part_id: part.rle for part in tables.read_parts(folder / "unify" / "parts.parquet")}
    (place,) = [
        place for place in inspection.choose("test") if place.row == inspection.choose("test")[-1].row
    ]
    (drawn,) = inspection.draw([place])
    answer = drawn.conversation.rpartition("ASSISTANT:")[2]
    said = [(phrase.label, phrase.image_index) for phrase, _ in parse_answer(answer, 2).phrases]
    assert said == [(target.label, target.image_index) for target in drawn.sample.targets]
    assert drawn.picture_HWC.dtype == np.uint8
    colours = assign_colours(target.label for target in drawn.sample.targets)
    scale = SIDE_PX / SIZE[1]
    for target in drawn.sample.targets:
        left, top, right, _ = box_xyxy(rles[target.part_id or ""])
        # Above the tag in the middle of the mask, right of the outline; 640 pixels and a margin a panel.
        row = 16 + 36 + round((top + 2) * scale)
        column = 16 + target.image_index * (SIDE_PX + 16) + round((left + right) / 2 * scale)
        pixel = drawn.picture_HWC[row, column].astype(int)
        colour = np.array(colours[target.label.partition("'s ")[2]])
        # 60 % of the colour over a grey.
        grey = (pixel - 0.6 * colour) / 0.4
        assert np.ptp(grey) < 8, (target, pixel)


def test_train_is_worded_as_in_training_and_test_as_in_evaluation(folder: Path, config: Config) -> None:
    inspection = Inspection(config, folder)
    by_split = {
        split: {
            drawn.conversation.partition("pictures.\n")[2].partition(" ASSISTANT")[0]
            for drawn in inspection.draw(inspection.choose(split))
        }
        for split in ("train", "test")
    }
    assert len(by_split["test"]) == 3
    assert len(by_split["train"]) > 3


def test_a_pair_id_cannot_leave_the_folder(folder: Path, config: Config) -> None:
    path = folder / "pair" / "val.parquet"
    edit_rows(path, lambda rows: rows[0].update(pair_id="../../etc/passwd"))
    edit_rows(path, lambda rows: rows[1].update(pair_id="../../etc/passwd" + "x" * 500))
    names = [
        drawn.file_name
        for drawn in Inspection(config, folder).draw([PairPlace("val", 0), PairPlace("val", 1)])
    ]
    assert names[0] == "val_0_.._.._etc_passwd.png"
    assert len(names[1]) < 150


@pytest.mark.parametrize(
    ("table", "values", "words"),
    [
        ("images", {"path": "../../secret.png"}, r"its file '../../secret.png' is not in /"),
        ("images", {"path": "a/none.png"}, r"none.png: no such image file"),
        ("images", {"image_id": "other"}, r"image '.*' is in a pair but not in images"),
        ("objects", {"object_id": "o"}, r"pair '.*': mask '.*' is not in the unified tables"),
        ("objects", {"rle_counts": b"0"}, r"pair '.*': mask '.*': RLE runs cover 0 pixels"),
        ("objects", {"height": 40, "width": 24}, r"mask of '.*' has size \(40, 24\), but"),
    ],
)
def test_a_broken_pair_is_an_error_that_names_it(
    table: str, values: dict[str, Any], words: str, folder: Path, config: Config
) -> None:
    first = tables.read_pairs(folder / "pair" / "val.parquet")[0].image_ids[0]
    change_image(folder / "unify" / f"{table}.parquet", first, values)
    with pytest.raises(DataError, match=words):
        list(Inspection(config, folder).draw([PairPlace("val", 0)]))


def change_image(path: Path, image_id: str, values: dict[str, Any]) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row.update(values if row["image_id"] == image_id else {})

    edit_rows(path, change)


def test_own_photographs_may_lie_elsewhere(folder: Path, config: Config, tmp_path: Path) -> None:
    first = tables.read_pairs(folder / "pair" / "val.parquet")[0].image_ids[0]
    photo = tmp_path / "photos" / "first.png"
    photo.parent.mkdir()
    (folder / "sources" / f"{first}.png").rename(photo)
    path = os.path.relpath(photo, folder / "sources")
    change_image(folder / "unify" / "images.parquet", first, {"path": path})
    own = OwnSource.model_validate(
        {"kind": "coco", "name": "own", "annotations": "x.json", "images": str(photo.parent),
         "split": "train", "part_link": None}
    )  # fmt: skip
    unify = config.unify.model_copy(update={"own_sources": [own]})
    (drawn,) = Inspection(config.model_copy(update={"unify": unify}), folder).draw([PairPlace("val", 0)])
    assert drawn.picture_HWC.any()
