"""calico.data.annotations.synsets: 158 classes, 126 of them in 37 categories, by the rule of appendix A.2."""

from collections import Counter

import pytest

from calico.data.annotations.synsets import Synset, exceptions, name_by_path, synset_categories, synsets
from calico.data.taxonomy import categories_of


def test_rule_and_exceptions_give_126_synsets_in_37_categories() -> None:
    categories = synset_categories()
    kept = {synset_id: name for synset_id, name in categories.items() if name}
    assert (len(categories), len(kept), len(set(kept.values()))) == (158, 126, 37)
    assert set(kept.values()) == set(categories_of("partimagenet"))
    assert sum(synsets()[synset_id].num_images for synset_id in kept) == 20_373


def test_the_papers_example_is_a_whale() -> None:
    assert name_by_path(synsets()["n02071294"]) == "whale"
    assert synset_categories()["n02071294"] == "whale"


def test_exceptions_are_only_what_the_rule_misses() -> None:
    by_rule = [synset_id for synset_id, one in synsets().items() if name_by_path(one)]
    assert len(by_rule) == 121
    assert len(exceptions()) == 5
    assert not set(by_rule) & set(exceptions())
    for synset_id, category in exceptions().items():
        supercategory = categories_of("partimagenet")[category].supercategory
        assert synsets()[synset_id].supercategory == supercategory


def test_dropped_classes_are_three_supercategories_and_two_newts() -> None:
    dropped = Counter(synsets()[one].supercategory for one, name in synset_categories().items() if not name)
    assert dropped == {"car": 19, "bicycle": 6, "bottle": 5, "reptile": 2}


def test_classes_per_supercategory_and_split_are_the_releases() -> None:
    assert Counter(one.supercategory for one in synsets().values()) == {
        "quadruped": 46, "biped": 17, "fish": 10, "bird": 14, "snake": 15, "reptile": 20, "car": 19,
        "bicycle": 6, "boat": 4, "aeroplane": 2, "bottle": 5,
    }  # fmt: skip
    assert Counter(one.ood_split for one in synsets().values()) == {"train": 109, "val": 19, "test": 30}


@pytest.mark.parametrize(
    ("supercategory", "path", "name"),
    [
        ("quadruped", ("animal", "canine", "wolf", "dog", "corgi"), "dog"),
        ("quadruped", ("animal", "dog", "wolf"), "wolf"),
        ("fish", ("animal", "dog"), ""),
        ("fish", ("animal", "bird", "fish", "thing"), "fish"),
        ("bird", (), ""),
    ],
)
def test_deepest_name_of_the_supercategory_wins(supercategory: str, path: tuple[str, ...], name: str) -> None:
    nodes = tuple((node,) for node in path)
    assert name_by_path(Synset("n0", "any", supercategory, "train", 1, nodes)) == name


def test_any_name_of_a_node_counts() -> None:
    assert (
        name_by_path(Synset("n0", "any", "quadruped", "train", 1, (("dog",), ("giant panda", "panda"))))
        == "panda"
    )
