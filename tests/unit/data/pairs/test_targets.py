"""calico.data.pairs.targets: which masks two images ask for, and in which order."""

from pathlib import Path

import pytest

from calico.data.annotations import paco_lvis
from calico.data.pairs.targets import Comparable, PairableObject, UnusablePairError, targets_of

COMPARABLE = Comparable({"dog": frozenset({"cat"}), "cat": frozenset({"dog"})})


def one(name: str, category: str, *parts: str) -> PairableObject:
    return PairableObject(name, name[0], category, 0.0, {part: f"{name}/{part}" for part in parts})


def labels(task: str, image_a: list[PairableObject], image_b: list[PairableObject]) -> list[tuple[int, str]]:
    return [(target.image_index, target.label) for target in targets_of(task, image_a, image_b, COMPARABLE)]


def test_common_objects_are_every_instance_of_the_shared_categories() -> None:
    image_a = [one("a1", "mug"), one("a2", "dog"), one("a3", "bus")]
    image_b = [one("b1", "dog"), one("b2", "mug"), one("b3", "dog")]
    targets = targets_of("common_objects", image_a, image_b, COMPARABLE)
    assert [(target.label, target.image_index, target.object_id) for target in targets] == [
        ("dog", 0, "a2"),
        ("dog", 1, "b1"),
        ("dog", 1, "b3"),
        ("mug", 0, "a1"),
        ("mug", 1, "b2"),
    ]
    assert all(target.part_id is None for target in targets)


def test_common_parts_go_by_name_then_image() -> None:
    dog, cat = one("a1", "dog", "tail", "head", "ear"), one("b1", "cat", "head", "tail", "paw")
    targets = targets_of("common_parts", [dog], [cat], COMPARABLE)
    assert [(target.label, target.image_index, target.part_id) for target in targets] == [
        ("dog's head", 0, "a1/head"),
        ("cat's head", 1, "b1/head"),
        ("dog's tail", 0, "a1/tail"),
        ("cat's tail", 1, "b1/tail"),
    ]
    assert [target.object_id for target in targets] == ["a1", "b1", "a1", "b1"]


def test_unique_parts_go_by_image_then_name() -> None:
    dog, cat = one("a1", "dog", "tail", "nose", "ear"), one("b1", "cat", "wing", "tail", "paw")
    assert labels("unique_parts", [dog], [cat]) == [
        (0, "dog's ear"),
        (0, "dog's nose"),
        (1, "cat's paw"),
        (1, "cat's wing"),
    ]


def test_other_objects_do_not_disturb_the_one_comparable_pair() -> None:
    image_a = [one("a1", "dog", "head"), one("a2", "mug", "handle")]
    image_b = [one("b1", "bus", "door"), one("b2", "dog", "head")]
    assert labels("common_parts", image_a, image_b) == [(0, "dog's head"), (1, "dog's head")]


@pytest.mark.parametrize(
    ("task", "image_a", "image_b", "reason"),
    [
        ("common_objects", [one("a", "dog")], [one("b", "cat")], "no common object"),
        ("common_parts", [one("a", "dog", "head")], [one("b", "mug", "head")], "no comparable objects"),
        ("common_parts", [], [], "no comparable objects"),
        (
            "common_parts",
            [one("a", "dog", "head")],
            [one("b", "dog", "head"), one("c", "cat", "head")],
            "ambiguous",
        ),
        (
            "unique_parts",
            [one("a", "dog", "head"), one("c", "dog", "tail")],
            [one("b", "dog", "ear")],
            "ambiguous",
        ),
        ("common_parts", [one("a", "dog", "head")], [one("b", "dog")], "comparable object without parts"),
        ("common_parts", [one("a", "dog", "head")], [one("b", "dog", "head"), one("c", "dog")], "ambiguous"),
        ("common_parts", [one("a", "dog", "head")], [one("b", "cat", "tail")], "no common part"),
        ("unique_parts", [one("a", "dog", "head")], [one("b", "cat", "head")], "no unique part"),
    ],
)
def test_unusable_pairs_have_a_reason(
    task: str, image_a: list[PairableObject], image_b: list[PairableObject], reason: str
) -> None:
    with pytest.raises(UnusablePairError, match=f"^{reason}$"):
        targets_of(task, image_a, image_b, COMPARABLE)


def test_real_dog_and_cat(real_path: Path) -> None:
    path = real_path / "pascal_part" / "pascal_part_paco_style.json"
    images = {
        annotated.image.path: [
            one(f"{number}", raw.category, *(part.category for part in raw.parts))
            for number, raw in enumerate(annotated.objects)
        ]
        for annotated in paco_lvis.read_annotation_file(path, split="train", image_folder="")
        if annotated.image
    }
    dog, cat = images["/2008_005643.jpg"], images["/2010_005275.jpg"]
    names = ["ear", "eye", "head", "leg", "neck", "nose", "paw", "tail", "torso"]
    expected = [
        (index, f"{category}'s {name}") for name in names for index, category in enumerate(("dog", "cat"))
    ]
    assert labels("common_parts", dog, cat) == expected
    assert labels("unique_parts", dog, cat) == [(0, "dog's muzzle")]
    chairs = images["/2010_001199.jpg"]
    with pytest.raises(UnusablePairError, match="comparable object without parts"):
        targets_of("common_parts", chairs[:1], chairs[1:2], COMPARABLE)
