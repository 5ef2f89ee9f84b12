import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.config import ReportSection
from calico.core import tables
from calico.core.records import PairSample, Target
from calico.core.tokens import TASKS
from calico.errors import DataError
from calico.reporting.gallery import (
    LegendEntry,
    PairScore,
    Span,
    build_extremes,
    build_gallery,
    choose_extremes,
    choose_pairs,
    split_answer,
)

SECTION = ReportSection(num_gallery_pairs=2, num_extreme_pairs=1, seed=61)


def pairs(num_pairs=10, sources=("a", "b")):
    return [
        PairSample(
            f"{task}/{number}",
            task,
            sources[number % len(sources)],
            ("x", "y"),
            (Target(0, "dog", "o", None),),
        )
        for task in TASKS
        for number in range(num_pairs)
    ]


def test_choice_is_the_same_for_any_order_of_the_file():
    assert choose_pairs(pairs(), SECTION) == choose_pairs(pairs()[::-1], SECTION)


def test_choice_depends_on_the_seed():
    other = ReportSection(num_gallery_pairs=2, num_extreme_pairs=1, seed=62)
    assert choose_pairs(pairs(), SECTION) != choose_pairs(pairs(), other)


def test_choice_takes_tasks_in_order_and_sources_in_turn():
    chosen = choose_pairs(pairs(), SECTION)
    assert [pair.task for pair in chosen] == [task for task in TASKS for _ in range(2)]
    assert all(
        {first.source, second.source} == {"a", "b"}
        for first, second in zip(chosen[::2], chosen[1::2], strict=True)
    )


def test_choice_takes_what_there_is():
    assert len(choose_pairs(pairs(num_pairs=1), SECTION)) == len(TASKS)


def choose(found, scores, num_extreme_pairs=2):
    """Return the ids of the best and of the worst pairs of the first task."""
    section = SECTION.model_copy(update={"num_extreme_pairs": num_extreme_pairs})
    chosen = choose_extremes(found, scores, section)
    return [[pair.pair_id for pair in chosen[end] if pair.task == TASKS[0]] for end in ("best", "worst")]


def test_extremes_are_ordered_by_share_then_miou_then_id():
    of_task = [f"{TASKS[0]}/{number}" for number in range(5)]
    found = [pair for pair in pairs() if pair.pair_id in of_task]
    #         share, mIoU:  1/1, 0.6         2/4, 0.9         2/2, 0.6         0/3, 0.2         0/1, 0.1
    scores = dict(
        zip(
            of_task,
            (
                PairScore(1, 1, 0.6),
                PairScore(2, 4, 0.9),
                PairScore(2, 2, 0.6),
                PairScore(0, 3, 0.2),
                PairScore(0, 1, 0.1),
            ),
            strict=True,
        )
    )
    expected = [[of_task[0], of_task[2]], [of_task[4], of_task[3]]]
    assert choose(found, scores) == expected
    assert choose(found[::-1], scores) == expected


def test_a_pair_is_never_best_and_worst():
    found = pairs(num_pairs=3)
    scores = {pair.pair_id: PairScore(1, 2, 0.1 * int(pair.pair_id[-1])) for pair in found}
    task = TASKS[0]
    assert choose(found, scores) == [[f"{task}/2", f"{task}/1"], [f"{task}/0"]]
    assert choose(found, scores, num_extreme_pairs=3) == [[f"{task}/2", f"{task}/1", f"{task}/0"], []]


def test_extremes_take_tasks_in_order():
    found = pairs()[::-1]
    scores = {pair.pair_id: PairScore(1, 2, 0.1 * int(pair.pair_id[-1])) for pair in found}
    chosen = choose_extremes(found, scores, SECTION)
    assert [pair.pair_id for pair in chosen["best"]] == [f"{task}/9" for task in TASKS]
    assert [pair.pair_id for pair in chosen["worst"]] == [f"{task}/0" for task in TASKS]


def test_extremes_of_a_run_are_drawn_with_their_scores(run_path):
    extremes = build_extremes(SECTION, run_path, ["calico", "lisa"])
    assert {end: [pair.task for pair in drawn] for end, drawn in extremes.items()} == {
        "best": list(TASKS),
        "worst": list(TASKS),
    }
    best, worst = extremes["best"][0], extremes["worst"][0]
    assert best.pair_id != worst.pair_id
    assert set(worst.pictures) == {"truth", "calico", "lisa"}
    assert (worst.scores["calico"].num_found, worst.scores["calico"].miou) == (1, 0.5)


def test_split_answer():
    spans = split_answer("I see <p> the dog's head </p> [SEG] (IMAGE1) and <p>a mug</p>[SEG].")
    assert spans == (
        Span("I see "),
        Span("<p> ", is_markup=True),
        Span("the dog's head", "head"),
        Span(" </p> [SEG] (IMAGE1)", is_markup=True),
        Span(" and "),
        Span("<p>", is_markup=True),
        Span("a mug", "mug"),
        Span("</p>[SEG]", is_markup=True),
        Span("."),
    )


@given(
    st.lists(st.sampled_from(["<p>", "</p>", " [SEG]", " (IMAGE2)", " the ", "dog's", "\n", "&"])).map(
        "".join
    )
)
def test_split_answer_loses_nothing(text):
    assert "".join(span.text for span in split_answer(text)) == text


@pytest.mark.parametrize(
    ("true_images", "predicted_images", "note"),
    [
        ((0, 1), (0, 1), "images 1 and 2"),
        ((1,), (), "image 2; missed in 2"),
        ((0,), (0, 1), "image 1; also predicted in 2"),
        ((), (1,), "predicted, not true"),
    ],
)
def test_legend_note(true_images, predicted_images, note):
    entry = LegendEntry("head", (1, 2, 255), true_images, predicted_images)
    assert entry.note == note
    assert entry.hex_colour == "#0102ff"


def test_gallery_of_a_run(run_path):
    gallery = build_gallery(SECTION, run_path, ["calico", "lisa"])
    assert [pair.task for pair in gallery] == [task for task in TASKS for _ in range(2)]
    first = gallery[0]
    assert set(first.pictures) == {"truth", "calico", "lisa"}
    assert all(len(pictures) == 2 for pictures in first.pictures.values())
    assert all(
        picture.startswith(b"\xff\xd8") for pictures in first.pictures.values() for picture in pictures
    )
    assert [entry.note for entry in first.legend] == ["images 1 and 2; missed in 2"]
    assert first.subject in ("dog and dog", "mug and mug")
    assert first.text_of("calico").startswith("I see <p> the dog's head </p>")
    assert (first.scores["calico"].num_found, first.scores["calico"].num_true) == (1, 2)


def test_an_unknown_instance_is_an_error(run_path, tmp_path):
    copy = shutil.copytree(run_path, tmp_path / "run")
    tables.write_parts(copy / "unify" / "parts.parquet", [])
    with pytest.raises(DataError, match=r"instance '.*' is not in the unified tables"):
        build_gallery(SECTION, copy, ["calico"])


def test_a_missing_answer_is_an_error(run_path, tmp_path):
    copy = shutil.copytree(run_path, tmp_path / "run")
    tables.write_answers(copy / "predict" / "calico" / "answers.parquet", [])
    with pytest.raises(DataError, match="no answer of calico"):
        build_gallery(SECTION, copy, ["calico"])


def test_a_missing_image_is_an_error(run_path, tmp_path):
    copy = shutil.copytree(run_path, tmp_path / "run")
    shutil.rmtree(copy / "sources" / "paco_lvis")
    with pytest.raises(DataError, match="no such image file"):
        build_gallery(SECTION, copy, ["calico"])
