"""calico.evaluation.matching against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calico.evaluation.matching import greedy_by_overlap, greedy_by_rank, optimal_by_overlap


def take_maximum_again_and_again(iou_PT: np.ndarray) -> list[tuple[int, int]]:
    """The textbook form: search the whole matrix, clear row and column, until nothing is left."""
    left_PT, pairs = iou_PT.copy(), []
    while left_PT.size and left_PT.max() > 0:
        row, column = np.unravel_index(int(left_PT.argmax()), left_PT.shape)
        pairs.append((int(row), int(column)))
        left_PT[row, :] = 0
        left_PT[:, column] = 0
    return pairs


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    height, width = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    tenths = draw(st.lists(st.integers(0, 10), min_size=height * width, max_size=height * width))
    return np.array(tenths, dtype=float).reshape(height, width) / 10


@settings(max_examples=150, deadline=None)
@given(matrices())
def test_overlap_equals_the_textbook_loop(iou_PT: np.ndarray) -> None:
    assert greedy_by_overlap(iou_PT) == take_maximum_again_and_again(iou_PT)


@settings(max_examples=150, deadline=None)
@given(matrices(), st.integers(0, 1000))
def test_inadmissible_pairs_are_as_if_they_did_not_overlap(iou_PT: np.ndarray, seed: int) -> None:
    is_admissible_PT = np.random.default_rng(seed).random(iou_PT.shape) < 0.6
    expected = take_maximum_again_and_again(np.where(is_admissible_PT, iou_PT, 0.0))
    assert greedy_by_overlap(iou_PT, is_admissible_PT) == expected


@settings(max_examples=150, deadline=None)
@given(matrices())
def test_overlap_finds_at_least_half_of_the_best_assignment(iou_PT: np.ndarray) -> None:
    num_rows, num_columns = iou_PT.shape
    if num_rows > num_columns:
        iou_PT, num_rows, num_columns = iou_PT.T, num_columns, num_rows
    best = max(
        sum(iou_PT[row, column] for row, column in enumerate(columns))
        for columns in itertools.permutations(range(num_columns), num_rows)
    )
    assert sum(iou_PT[pair] for pair in greedy_by_overlap(iou_PT)) >= best / 2 - 1e-12


@pytest.mark.parametrize(
    ("iou_PT", "expected"),
    [
        ([[0.9, 0.2], [0.1, 0.6]], [True, True]),
        ([[0.9], [0.95]], [True, False]),  # rank goes before overlap
        (
            [[0.7, 0.7], [0.6, 0.0]],
            [True, True],
        ),  # of equal overlaps COCO takes the last, which leaves the first
        ([[0.49]], [False]),
        ([[0.5]], [True]),
    ],
)
def test_rank_by_hand(iou_PT: list[list[float]], expected: list[bool]) -> None:
    assert greedy_by_rank(np.array(iou_PT), 0.5).tolist() == expected


@settings(max_examples=150, deadline=None)
@given(matrices(), st.integers(0, 1000))
def test_the_optimal_matching_is_the_best_of_all(iou_PT: np.ndarray, seed: int) -> None:
    is_preferred_PT = np.random.default_rng(seed).random(iou_PT.shape) < 0.4
    matches = optimal_by_overlap(iou_PT, is_preferred_PT)
    assert len({row for row, _ in matches}) == len({column for _, column in matches}) == len(matches)
    assert all(iou_PT[match] > 0 for match in matches)
    num_rows, num_columns = iou_PT.shape
    candidates = [
        list(zip(rows, columns, strict=True))
        for size in range(min(iou_PT.shape) + 1)
        for rows in itertools.combinations(range(num_rows), size)
        for columns in itertools.permutations(range(num_columns), size)
    ]

    def worth(pairs: list[tuple[int, int]]) -> tuple[float, int]:
        total = round(sum(float(iou_PT[pair]) for pair in pairs), 6)
        return total, sum(bool(is_preferred_PT[pair]) for pair in pairs if iou_PT[pair] > 0)

    assert worth(matches) == max(worth(pairs) for pairs in candidates)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_match(shape: tuple[int, int]) -> None:
    assert greedy_by_overlap(np.zeros(shape)) == []
    assert optimal_by_overlap(np.zeros(shape), np.zeros(shape, dtype=bool)) == []
    assert greedy_by_rank(np.zeros(shape), 0.5).tolist() == [False] * shape[0]
