"""The metrics against other people's code: COCOeval (two implementations), dense masks and the text model.

The matrices with known answers come from reading the released GLaMM evaluator, eval/gcg/evaluate.py.
"""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.glamm_shaped import miou_and_recall
from calico.config import EvaluateSection
from calico.core.masks import encode, iou_matrix
from calico.errors import DataError
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics import GLAMM_METRICS
from calico.evaluation.metrics.ap50 import combine_ap50, measure_ap50
from calico.evaluation.metrics.class_ap50 import combine_class_ap50, measure_class_ap50
from calico.evaluation.metrics.glamm import stopping_count
from calico.evaluation.metrics.miou import mean_matched_iou
from calico.evaluation.metrics.recall import count_found
from calico.evaluation.metrics.text_similarity import TextSimilarity, find_text_model, load_text_model

TEXT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SECTION = EvaluateSection(
    seed=0, text_model=TEXT_MODEL, text_threshold=0.5, iou_threshold=0.5, num_bootstrap=1, glamm=False
)
NUM_DATASETS, NUM_IMAGES = 100, 10
LABELS = ("dog", "cat", "bird")


def case_of(
    iou_PT: np.ndarray, scores_P: np.ndarray | None = None, similarity_PT: Any = None, *, num_labels: int = 1
) -> ImageCase:
    """Deal the first labels out in turn."""
    num_predicted, num_true = iou_PT.shape
    return ImageCase(
        tuple(LABELS[row % num_labels] for row in range(num_true)),
        tuple(LABELS[row % num_labels] for row in range(num_predicted)),
        np.ones(num_predicted) if scores_P is None else scores_P,
        iou_PT,
        np.ones_like(iou_PT) if similarity_PT is None else np.asarray(similarity_PT),
    )


def test_miou_oracles() -> None:
    assert mean_matched_iou(case_of(np.array([[0.9, 0.2], [0.1, 0.6]]))) == 0.75
    assert mean_matched_iou(case_of(np.array([[0.9], [0.0]]))) == 0.9


def test_a_stopping_matcher_finds_none_where_ours_finds_one() -> None:
    iou_PT, similarity_PT = np.array([[0.9, 0.2], [0.1, 0.6]]), np.array([[0.3, 0.9], [0.9, 0.9]])
    assert stopping_count(iou_PT.T, similarity_PT.T, SECTION) == 0
    assert count_found(case_of(iou_PT, similarity_PT=similarity_PT), SECTION) == 1


def random_mask(generator: np.random.Generator) -> np.ndarray:
    mask_HW = np.zeros((24, 32), dtype=bool)
    top, left = generator.integers(0, 16), generator.integers(0, 20)
    mask_HW[top : top + generator.integers(2, 10), left : left + generator.integers(2, 14)] = True
    return mask_HW & (generator.random(mask_HW.shape) < 0.95)


def random_image(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return true and predicted masks, half of the latter near a true one, and coarse scores with ties."""
    true = [random_mask(generator) for _ in range(generator.integers(0, 5))]
    true_THW = np.array(true, dtype=bool).reshape(-1, 24, 32)
    predicted = []
    for _ in range(generator.integers(0, 7)):
        if len(true_THW) and generator.random() < 0.7:
            near_HW = np.roll(true_THW[generator.integers(len(true_THW))], generator.integers(-2, 3), axis=1)
            predicted.append(near_HW & (generator.random(near_HW.shape) < 0.8))
        else:
            predicted.append(random_mask(generator))
    scores_P = np.sort(generator.integers(1, 6, len(predicted)) / 5)[::-1]
    return true_THW, np.array(predicted, dtype=bool).reshape(-1, 24, 32), scores_P


def dense_iou(predicted_PHW: np.ndarray, true_THW: np.ndarray) -> np.ndarray:
    shared_PT = (predicted_PHW[:, None] & true_THW[None]).sum(axis=(2, 3))
    joined_PT = (predicted_PHW[:, None] | true_THW[None]).sum(axis=(2, 3))
    return np.divide(shared_PT, joined_PT, out=np.zeros(shared_PT.shape), where=joined_PT > 0)


def coco_ap50(images: list[Any], coco_class: Any, evaluator_class: Any, *, num_labels: int = 1) -> float:
    """Score the images with a COCO evaluator; ids and file order follow our canonical order."""
    annotations, results = [], []
    for image_id, (true_THW, predicted_PHW, scores_P) in enumerate(images, start=1):
        for row, mask_HW in enumerate(true_THW):
            rle = encode(mask_HW).as_coco()
            box = coco_mask.toBbox(rle).tolist()
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "iscrowd": 0}
                | {"category_id": 1 + row % num_labels}
                | {"segmentation": rle, "area": int(mask_HW.sum()), "bbox": box}
            )
        results += [
            {
                "image_id": image_id,
                "category_id": 1 + row % num_labels,
                "segmentation": encode(mask_HW).as_coco(),
                "score": score,
            }
            for row, (mask_HW, score) in enumerate(zip(predicted_PHW, scores_P.tolist(), strict=True))
        ]
    truth = coco_class()
    truth.dataset = {
        "images": [{"id": number, "height": 24, "width": 32} for number in range(1, len(images) + 1)],
        "annotations": annotations,
        "categories": [{"id": 1 + row, "name": LABELS[row]} for row in range(num_labels)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluator = evaluator_class(truth, truth.loadRes(results), "segm")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return float(evaluator.stats[1])


@pytest.fixture(scope="module")
def datasets() -> list[list[Any]]:
    generator = np.random.default_rng(2024)
    return [[random_image(generator) for _ in range(NUM_IMAGES)] for _ in range(NUM_DATASETS)]


def similar(predicted: np.ndarray, true: np.ndarray, num_labels: int) -> np.ndarray:
    """Return 1 where two masks have the same label, else 0."""
    rows_P1, columns_1T = np.arange(len(predicted))[:, None], np.arange(len(true))[None]
    return (rows_P1 % num_labels == columns_1T % num_labels).astype(float)


def our_pairs(images: list[Any], *, num_labels: int = 1) -> list[PairCase]:
    return [
        PairCase(
            f"{number:03d}",
            "common_parts",
            tuple(
                case_of(
                    dense_iou(predicted, true),
                    scores,
                    similar(predicted, true, num_labels),
                    num_labels=num_labels,
                )
                for true, predicted, scores in images[number : number + 2]
            ),
        )
        for number in range(0, len(images), 2)
    ]


def our_ap50(images: list[Any]) -> float:
    pairs = our_pairs(images)
    detections = [measure_ap50(pair, SECTION) for pair in pairs]
    return float(combine_ap50(detections, np.ones((1, len(pairs))))[0])


def faster_coco() -> tuple[Any, Any]:
    module = pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
    return module.COCO, module.COCOeval_faster


@pytest.mark.parametrize("evaluators", [lambda: (COCO, COCOeval), faster_coco], ids=["pycocotools", "faster"])
def test_ap50_equals_cocoeval(datasets: list[list[Any]], evaluators: Callable[[], tuple[Any, Any]]) -> None:
    # Worst difference measured over the 100 data sets: 1.1e-16.
    classes = evaluators()
    differences = [abs(our_ap50(images) - coco_ap50(images, *classes)) for images in datasets]
    assert max(differences) < 1e-12


def test_the_glamm_family_equals_a_loop_of_the_released_shape(datasets: list[list[Any]]) -> None:
    def embed(labels: Any) -> np.ndarray:
        return np.array([[float(label == name) for name in LABELS] for label in labels])

    for images in datasets[:30]:
        truth, results = [], []
        for image_id, (true_THW, predicted_PHW, _) in enumerate(images):
            for found, masks in ((truth, true_THW), (results, predicted_PHW)):
                found += [
                    {"image_id": image_id, "category_id": row % 3, "segmentation": encode(mask_HW).as_coco()}
                    for row, mask_HW in enumerate(masks)
                ]
        expected = miou_and_recall(
            range(NUM_IMAGES), truth, results, names=dict(enumerate(LABELS)), embed=embed
        )
        pairs = our_pairs(images, num_labels=3)
        actual = []
        for name in ("glamm_mIoU", "glamm_Recall"):
            measured = [GLAMM_METRICS[name].measure(pair, SECTION) for pair in pairs]
            actual.append(GLAMM_METRICS[name].combine(measured, np.ones((1, len(pairs))))[0])
        assert actual == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("evaluators", [lambda: (COCO, COCOeval), faster_coco], ids=["pycocotools", "faster"])
def test_class_ap50_equals_cocoeval(
    datasets: list[list[Any]], evaluators: Callable[[], tuple[Any, Any]]
) -> None:
    # Worst difference measured over the 100 data sets: 5.6e-17.
    classes = evaluators()
    for images in datasets:
        pairs = our_pairs(images, num_labels=3)
        measured = [measure_class_ap50(pair, SECTION) for pair in pairs]
        ours = combine_class_ap50(measured, np.ones((1, len(pairs))))[0]
        assert abs(ours - coco_ap50(images, *classes, num_labels=3)) < 1e-12


def test_iou_equals_dense_masks(datasets: list[list[Any]]) -> None:
    for true_THW, predicted_PHW, _ in (image for images in datasets for image in images):
        ours = iou_matrix([encode(mask) for mask in predicted_PHW], [encode(mask) for mask in true_THW])
        assert np.array_equal(ours, dense_iou(predicted_PHW, true_THW))


def test_text_model_says_what_it_is_known_to_say() -> None:
    try:
        folder = find_text_model(TEXT_MODEL)
    except DataError as error:
        pytest.skip(f"text model absent: {error}")
    labels = ["killer whale", "orca", "dog", "puppy", "dog's head", "cat's head", "dog's tail", "bus's wheel"]
    similarity = TextSimilarity(labels, load_text_model(folder))
    assert similarity(["killer whale", "dog"], ["orca", "puppy"]).diagonal().round(2).tolist() == [0.33, 0.8]
    # The limit of 0.5 lets another part of the same object, or the same part of another, pass for right.
    found = similarity(["dog's head"], ["cat's head", "dog's tail", "bus's wheel"])
    assert found.round(2).tolist() == [[0.76, 0.75, 0.26]]
