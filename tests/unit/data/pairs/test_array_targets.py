"""calico.data.pairs.array_targets: the same targets and reasons as the plain rules, for every two images."""

from collections import defaultdict
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from calico.core import masks, tables
from calico.core.masks import box_xyxy
from calico.core.records import ImageRecord, ObjectInstance, PartInstance, Target
from calico.core.tokens import TASKS
from calico.data.pairs.annotation_arrays import AnnotationArrays, read_annotations
from calico.data.pairs.array_targets import REASONS, NameSets, TargetFinder, blocks, expand
from calico.data.pairs.category_pairs import CategoryPair
from calico.data.pairs.pairing import may_compare
from calico.data.pairs.targets import Comparable, PairableObject, UnusablePairError, targets_of

SIDE_PX = 6
KEPT = [("bird", "cat"), ("cat", "zebra")]
CATEGORY_PAIRS = [CategoryPair("a", *names, ("head",), 1.0, True, "") for names in KEPT]
CATEGORY_PAIRS += [CategoryPair("a", "bird", "zebra", ("head",), 1.0, False, "")]
PARTNERS: dict[str, frozenset[str]] = {
    "bird": frozenset({"cat"}),
    "cat": frozenset({"bird", "zebra"}),
    "zebra": frozenset({"cat"}),
}

an_object = st.tuples(
    st.sampled_from(["zebra", "cat", "bird", "Ärmel"]),
    st.integers(0, SIDE_PX - 1),
    # A name may come twice: the last part of a name counts.
    st.lists(st.sampled_from(["head", "tail", "wing", "é", "Body"]), max_size=4),
)
scenes = st.lists(st.lists(an_object, max_size=4), min_size=2, max_size=5)
Scenes = list[list[tuple[str, int, list[str]]]]


def unified(
    scenes: Scenes,
) -> tuple[list[ImageRecord], list[ObjectInstance], list[PartInstance]]:
    images, objects, parts = [], [], []
    for number, scene in enumerate(scenes):
        image_id = f"a/{number}"
        images.append(ImageRecord(image_id, "a", f"{number}.png", SIDE_PX, SIDE_PX, "train"))
        for index, (category, left, names) in enumerate(scene):
            mask_HW = np.zeros((SIDE_PX, SIDE_PX), dtype=bool)
            mask_HW[:, left] = True
            rle = masks.encode(mask_HW)
            object_id = f"{image_id}#{index}"
            objects.append(ObjectInstance(object_id, image_id, category, rle))
            parts += [
                PartInstance(f"{object_id}/{place}", object_id, image_id, name, rle)
                for place, name in enumerate(names)
            ]
    return images, objects, parts


def pairable(objects: list[ObjectInstance], parts: list[PartInstance]) -> dict[str, list[PairableObject]]:
    part_ids: dict[str, dict[str, str]] = defaultdict(dict)
    for part in parts:
        part_ids[part.object_id][part.category] = part.part_id
    found: dict[str, list[PairableObject]] = defaultdict(list)
    for one in objects:
        left = box_xyxy(one.rle)[0]
        found[one.image_id].append(
            PairableObject(one.object_id, one.image_id, one.category, left, part_ids[one.object_id])
        )
    return {key: sorted(value, key=lambda one: (one.left_px, one.object_id)) for key, value in found.items()}


def in_arrays(
    task: str, images: np.ndarray, annotations: AnnotationArrays, max_targets: int
) -> list[str | tuple[Target, ...]]:
    """Return the targets, or the reason, of each pair of images."""
    finder = TargetFinder(annotations, max_targets)
    judgement = finder.judge(task, images, may_compare(annotations, CATEGORY_PAIRS)["a"])
    usable = np.flatnonzero(judgement.reason == 0)
    targets = finder.targets(task, images[usable], judgement.objects[usable])
    assert (np.diff(targets.first) == judgement.num_targets[usable]).all()
    found: list[str | tuple[Target, ...]] = [REASONS[code] for code in judgement.reason]
    for place, pair in enumerate(usable):
        rows = range(targets.first[place], targets.first[place + 1])
        found[pair] = tuple(
            Target(
                int(targets.image_index[row]),
                (annotations.object_labels if task == "common_objects" else annotations.part_labels)[
                    targets.objects[row] if task == "common_objects" else targets.parts[row]
                ].as_py(),
                annotations.object_ids[targets.objects[row]].as_py(),
                annotations.part_ids[targets.parts[row]].as_py() if targets.parts[row] >= 0 else None,
            )
            for row in rows
        )
    return found


def by_rules(
    task: str, image_a: list[PairableObject], image_b: list[PairableObject], max_targets: int
) -> str | tuple[Target, ...]:
    try:
        targets = targets_of(task, image_a, image_b, Comparable(PARTNERS))
    except UnusablePairError as reason:
        return str(reason)
    return targets if len(targets) <= max_targets else "too many targets"


@settings(max_examples=60)
@given(scenes, st.integers(1, 6))
def test_arrays_agree_with_the_rules(scenes: Scenes, max_targets: int) -> None:
    images, objects, parts = unified(scenes)
    with TemporaryDirectory() as folder:
        tables.write_images(Path(folder) / "images.parquet", images)
        tables.write_objects(Path(folder) / "objects.parquet", objects)
        tables.write_parts(Path(folder) / "parts.parquet", parts)
        annotations = read_annotations(Path(folder))
    if not objects:
        return
    by_image = pairable(objects, parts)
    rows = [(a, b) for a, b in product(range(len(images)), repeat=2) if a != b]
    for task in TASKS:
        found = in_arrays(task, np.array(rows, dtype=np.int32), annotations, max_targets)
        for (a, b), one in zip(rows, found, strict=True):
            scene_a, scene_b = by_image.get(f"a/{a}", []), by_image.get(f"a/{b}", [])
            assert one == by_rules(task, scene_a, scene_b, max_targets)


def test_every_reason_is_one_of_the_rules() -> None:
    from calico.data.pairs import targets

    text = Path(targets.__file__).read_text()
    assert all(f'"{reason}"' in text for reason in REASONS[1:-1])


def test_sets_have_room_for_more_than_64_names() -> None:
    rows, members = np.array([0, 0, 1, 1]), np.array([3, 130, 130, 64])
    sets = NameSets(rows, members, (2, 131))
    assert sets.contains(np.array([0, 0, 1, 1]), np.array([130, 64, 64, 3])).tolist() == [
        True,
        False,
        True,
        False,
    ]
    assert sets.count_common(np.array([0]), np.array([1])).tolist() == [1]
    assert sets.count_unique(np.array([0]), np.array([1])).tolist() == [2]


def test_groups_are_expanded_and_cut_by_size() -> None:
    group, place = expand(np.array([2, 0, 3]))
    assert (group.tolist(), place.tolist()) == ([0, 0, 2, 2, 2], [0, 1, 0, 1, 2])
    assert blocks(np.array([2, 3, 9, 1, 1]), 5) == [slice(0, 2), slice(2, 3), slice(3, 5)]
    assert blocks(np.array([], dtype=int), 5) == []
