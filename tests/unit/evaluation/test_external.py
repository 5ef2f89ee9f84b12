"""Anybody's predictions: record and COCO files in any order, and files that are nothing of the kind."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from calico.core import tables
from calico.core.masks import decode
from calico.errors import DataError
from calico.evaluation.external import evaluate_files, write_coco_truth


@pytest.fixture(scope="module")
def folder(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pairs and the truth of the world, and a text model's place."""
    folder = tmp_path_factory.mktemp("external")
    tables.write_images(folder / "unify/images.parquet", world.truth.images.values())
    tables.write_objects(folder / "unify/objects.parquet", world.truth.objects.values())
    tables.write_parts(folder / "unify/parts.parquet", world.truth.parts.values())
    tables.write_pairs(folder / "pair/test.parquet", world.test_pairs)
    (folder / "model").mkdir()
    return folder


@pytest.fixture(scope="module")
def score(folder: Path, section: Any, embed_words: Any) -> Callable[..., dict[str, Any]]:
    def score_files(*paths: Path, **options: Any) -> dict[str, Any]:
        changed = section.model_copy(update={"text_model": str(folder / "model"), "num_bootstrap": 20})
        return evaluate_files(
            changed.model_copy(update={"glamm": options.pop("glamm", False)}),
            paths,
            pairs_path=options.pop("pairs_path", folder / "pair/test.parquet"),
            truth_path=folder / "unify",
            embed=embed_words,
            **options,
        )

    return score_files


@pytest.fixture
def results(world: Any, folder: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """The perfect predictions as COCO results, numbered by the annotation file that we write."""
    write_coco_truth(
        tmp_path / "truth.json", pairs_path=folder / "pair/test.parquet", truth_path=folder / "unify"
    )
    truth = json.loads((tmp_path / "truth.json").read_text())
    images = {(image["pair_id"], image["image_index"]): image["id"] for image in truth["images"]}
    categories = {category["name"]: category["id"] for category in truth["categories"]}
    return [
        {
            "image_id": images[mask.pair_id, mask.image_index],
            "category_id": categories[mask.label],
            "segmentation": {
                "size": [mask.rle.height, mask.rle.width],
                "counts": mask.rle.counts.decode("ascii"),
            },
            "score": mask.score,
        }
        for mask in world.perfect()
    ]


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_records_and_coco_results_score_alike(
    world: Any, results: Any, score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    tables.write_predictions(tmp_path / "a.parquet", world.perfect())
    by_records = score(tmp_path / "a.parquet")
    by_coco = score(write(tmp_path / "b.json", results))
    assert by_records["scores"] == by_coco["scores"]
    assert set(by_records["scores"]["mean"].values()) == {1.0}
    assert by_coco["test"] == {"pairs": 3, "predictions": {str(tmp_path / "b.json"): 5}}


def test_the_written_truth_is_a_coco_data_set(world: Any, results: Any, tmp_path: Path) -> None:
    truth = COCO(str(tmp_path / "truth.json"))
    assert len(truth.getImgIds()) == 6
    assert min(truth.getAnnIds()) == 1
    assert len(truth.getAnnIds()) == 5
    loaded = truth.loadRes(results)
    for result, annotation in zip(results, loaded.loadAnns(loaded.getAnnIds()), strict=True):
        assert annotation["area"] == coco_mask.area(result["segmentation"])
    (annotation,) = truth.loadAnns(truth.getAnnIds(imgIds=[1]))
    assert np.array_equal(
        truth.annToMask(annotation), decode(world.truth.mask_of(world.test_pairs[0].targets[0]))
    )


def test_free_labels_and_run_lengths_as_lists_are_read(
    world: Any, results: Any, score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    for result, mask in zip(results, world.perfect(), strict=True):
        del result["category_id"]
        result["label"] = f"The {mask.label.upper()}"
        flat = decode(mask.rle).ravel(order="F").astype(int)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]]))).tolist()
        result["segmentation"]["counts"] = np.diff([0, *edges]).tolist()
    found = score(write(tmp_path / "a.json", results))
    assert set(found["scores"]["mean"].values()) == {1.0}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 4),
            st.integers(1, 6),
            st.sampled_from(["dog", "cat", "dog's head"]),
            st.integers(0, 2),
        ),
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_a_file_changes_no_metric(
    results: Any,
    score: Callable[..., dict[str, Any]],
    tmp_path: Path,
    chosen: list[tuple[int, int, str, int]],
    order: random.Random,
) -> None:
    entries = [
        {
            "image_id": image_id,
            "label": label,
            "segmentation": results[row]["segmentation"],
            "score": tied / 2,
        }
        for row, image_id, label, tied in chosen
    ]
    shuffled = order.sample(entries, len(entries))
    first, second = (score(write(tmp_path / "a.json", content)) for content in (entries, shuffled))
    assert first == second


def test_only_the_glamm_switch_reads_the_order(
    results: Any, score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    wrong = results[0] | {"segmentation": results[2]["segmentation"], "score": 0.1, "image_id": 2}
    found = [
        score(write(tmp_path / "a.json", content), glamm=True)["scores"]["common_objects"]
        for content in ([wrong, *results], [*results, wrong])
    ]
    assert found[0]["glamm_AP50"] < found[1]["glamm_AP50"]
    assert found[0]["AP50"] == found[1]["AP50"] == 1.0


def test_tasks_without_pairs_are_left_out(
    world: Any, results: Any, score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    tables.write_pairs(tmp_path / "pairs.parquet", world.test_pairs[2:])
    masks = [mask for mask in world.perfect() if mask.pair_id == "u1"]
    tables.write_predictions(tmp_path / "a.parquet", masks)
    found = score(tmp_path / "a.parquet", pairs_path=tmp_path / "pairs.parquet")
    assert set(found["scores"]) == {"unique_parts", "mean"}


def test_runs_are_averaged_and_compared(
    world: Any, score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    perfect, empty = tmp_path / "perfect.parquet", tmp_path / "empty.parquet"
    tables.write_predictions(perfect, world.perfect())
    tables.write_predictions(empty, [])
    found = score(perfect, empty, against=[empty])
    assert found["scores"]["mean"]["mIoU"] == 0.5
    assert found["spread"]["mean"]["mIoU"] == round(0.5**0.5, 6)
    # Which runs are drawn is all that varies: each pair is equally good.
    assert found["intervals"]["mean"]["mIoU"] == [0.0, 1.0]
    assert found["differences"]["mean"]["mIoU"]["difference"] == 0.5
    assert {name: scores["mean"]["mIoU"] for name, scores in found["runs"].items()} == {
        str(perfect): 1.0,
        str(empty): 0.0,
    }
    assert not {"spread", "runs", "differences"} & set(score(perfect))


def test_the_order_of_the_runs_does_not_decide_a_comparison(
    world: Any, score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """One good and one bad run against one good and one bad run: anything may come of it."""
    perfect, empty = tmp_path / "perfect.parquet", tmp_path / "empty.parquet"
    tables.write_predictions(perfect, world.perfect())
    tables.write_predictions(empty, [])
    for others in ([perfect, empty], [empty, perfect]):
        found = score(perfect, empty, against=others)["differences"]["mean"]["mIoU"]
        assert found["difference"] == 0.0
        low, high = found["interval"]
        assert low <= -0.5
        assert high >= 0.5


def test_masks_that_cannot_be_scored_are_counted(
    results: Any, score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    size = results[0]["segmentation"]["size"]
    bad = [
        {"segmentation": {"size": [30, 20], "counts": "0"}},
        {"segmentation": {"size": size, "counts": "\u00ff\ud800"}},
        {"segmentation": {"size": size, "counts": [-1, 601]}},
        {"segmentation": {"size": size, "counts": [10**30]}},
        {"segmentation": {"size": [10**9, 10**9], "counts": [1]}},
        {"segmentation": {"size": [0, 0], "counts": []}},
        {"score": float("nan")},
        {"score": 10**400},
        {"score": -0.1},
    ]
    path = write(tmp_path / "a.json", [*results, *(results[0] | change for change in bad)])
    found = score(path)
    assert found["left_out"][str(path)] == {
        "unknown_image": 0,
        "wrong_size": 3,
        "damaged_mask": 3,
        "bad_score": 3,
    }
    assert set(found["scores"]["mean"].values()) == {1.0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": []}, r"a\.json: holds a JSON dict; COCO results are a list"),
        ([1], r"a\.json: result 1 of 1: is a JSON int, not an object"),
        ([{}], r"result 1 of 1: image_id is None, expected 1 to 6.*--coco-truth"),
        ([{"image_id": True}], r"image_id is True, expected 1 to 6"),
        ([{"image_id": 7}], r"image_id is 7, expected 1 to 6"),
        ([{"image_id": 1, "category_id": "dog"}], r"category_id is 'dog', expected 1 to 4"),
        ([{"image_id": 1, "label": "dog"}], r"score is None, expected a number"),
        ([{"image_id": 1, "label": "dog", "score": "1"}], r"score is '1', expected a number"),
        (
            [{"image_id": 1, "label": "dog", "score": 1, "segmentation": [[1, 2, 3]]}],
            r'segmentation is \[\[1, 2, 3\]\], expected \{"size"',
        ),
        (
            [{"image_id": 1, "label": "dog", "score": 1, "segmentation": {"size": [1.5, 2]}}],
            r"segmentation is",
        ),
    ],
)
def test_other_json_is_one_sentence(
    score: Callable[..., dict[str, Any]], tmp_path: Path, content: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        score(write(tmp_path / "a.json", content))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b"[1" + b"0" * 5000 + b"]"])
def test_what_is_no_json_is_one_sentence(
    score: Callable[..., dict[str, Any]], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json: not a JSON file|a\.json: result 1 of 1"):
        score(tmp_path / "a.json")


def test_other_files_are_one_sentence(
    world: Any, folder: Path, score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 but nothing else")
    with pytest.raises(
        DataError, match=r"a\.parquet: not a parquet file .*Give a file of prediction records"
    ):
        score(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"none\.parquet: no such file. Check the path"):
        score(tmp_path / "none.parquet")
    with pytest.raises(DataError, match=r"none\.json: no such file. Check the path"):
        score(tmp_path / "none.json")
    with pytest.raises(DataError, match=r"a\.csv: the name ends in '\.csv'"):
        score(tmp_path / "a.csv")
    with pytest.raises(
        DataError, match=r"test\.parquet: columns are pair_id.*expected pair_id, task, image_index"
    ):
        score(folder / "pair/test.parquet")
    tables.write_pairs(tmp_path / "pairs.parquet", [])
    with pytest.raises(DataError, match=r"pairs\.parquet: holds 0 pairs"):
        score(tmp_path / "a.json", pairs_path=tmp_path / "pairs.parquet")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("label", pa.array([None], pa.string()), r"1 of 1 rows have no label"),
        ("rle_counts", pa.array([None], pa.binary()), r"1 of 1 rows have no rle_counts"),
        ("score", pa.array(["high"]), r"Failed to parse string: 'high'"),
        ("height", pa.array([2**40]), r"Integer value 1099511627776 not in range"),
        ("label", pa.array([b"\xff\xfe"]).cast(pa.string(), safe=False), r"a\.parquet: .*(UTF8|UTF-8)"),
    ],
)
def test_records_with_broken_values_are_one_sentence(
    world: Any, score: Callable[..., dict[str, Any]], tmp_path: Path, column: str, values: Any, message: str
) -> None:
    tables.write_predictions(tmp_path / "good.parquet", world.perfect()[:1])
    table = pq.read_table(tmp_path / "good.parquet")
    pq.write_table(table.set_column(table.column_names.index(column), column, values), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message):
        score(tmp_path / "a.parquet")


def test_predictions_of_other_pairs_are_one_sentence(
    world: Any, score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    tables.write_pairs(tmp_path / "pairs.parquet", world.test_pairs[:2])
    tables.write_predictions(tmp_path / "a.parquet", world.perfect())
    with pytest.raises(DataError, match=r"prediction for pair 'u1'.*not among the 2 pairs to score"):
        score(tmp_path / "a.parquet", pairs_path=tmp_path / "pairs.parquet")
