"""Lessons: the conversation's grammar, masks in the order of [SEG], categories that are never compared."""

import numpy as np
import pytest

from calico.core.tokens import SEG
from calico.data.pairs.conversation import parse_answer
from calico.standins.lessons import LESSON_SHARES, SceneIndex, draw_lesson, text_corpus
from calico.standins.scenes import SceneSpec, load_pool, object_categories, part_classes

COMPARED = [frozenset(("cat", "dog")), frozenset(("chair", "stool"))]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    pool = load_pool(tmp_path_factory.mktemp("pool"), SceneSpec("test", 3, 60, 0.3, 128), num_workers=1)
    return SceneIndex(pool, COMPARED)


def test_lesson_shares_sum_to_one():
    assert sum(LESSON_SHARES.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("name", LESSON_SHARES)
def test_draw_lesson_each_seg_has_the_mask_of_its_label(index, name):
    rng = np.random.default_rng(0)
    for _ in range(20):
        lesson = draw_lesson(name, index, rng)
        parsed = parse_answer(lesson.answer, len(lesson.scenes))
        assert parsed.num_malformed == 0
        assert parsed.num_seg == len(lesson.mask_ids) == lesson.answer.count(SEG)
        assert lesson.prompt.count("<image>") == len(lesson.scenes)
        for (phrase, ordinal), (image, mask_id) in zip(parsed.phrases, lesson.mask_ids, strict=True):
            scene, _, part = map(int, mask_id.split("/"))
            category, *part_name = phrase.label.split("'s ")
            assert lesson.mask_ids[ordinal] == (image, mask_id)
            assert (image, scene) == (phrase.image_index, lesson.scenes[image])
            assert category in {one.category for one in index.objects[scene]}
            assert part_name == ([part_classes()[part - 1][1]] if part else [])
        assert index.masks([mask_id for _, mask_id in lesson.mask_ids]).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("name", ["common_parts", "unique_parts"])
def test_draw_lesson_comparisons_are_of_other_categories(index, name):
    rng = np.random.default_rng(1)
    for _ in range(40):
        lesson = draw_lesson(name, index, rng)
        categories = frozenset(index.objects[scene][0].category for scene in lesson.scenes)
        assert len(categories) == 2
        assert categories not in COMPARED


def test_draw_lesson_equal_generators_give_equal_lessons(index):
    drawn = [draw_lesson("object_list", index, np.random.default_rng(5)) for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_text_corpus_has_every_word():
    words = " ".join(text_corpus())
    for word in (*object_categories(), *(part for _, part in part_classes())):
        assert word in words
