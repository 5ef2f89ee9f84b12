"""The catalogue is a subset of the paper's Table 6 and agrees with the released ids."""

from calico.data.synthetic import catalogue
from calico.data.synthetic.catalogue import (
    ADE20K_PART_234,
    ADE_OBJECT_IDS,
    ADE_PART_IDS,
    CATALOGUE,
    PACO_LVIS,
    PACO_OBJECTS,
    PACO_PART_IDS,
    PARTIMAGENET,
    PARTIMAGENET_PARTS_BY_SUPERCATEGORY,
    PARTIMAGENET_SUPERCATEGORY,
    PARTIMAGENET_SYNSETS,
)

# Copied from Table 6 of the paper, for the drawn categories.
TABLE_6 = {
    PARTIMAGENET: {
        "airplane": "body;engine;head;tail;wing",
        "bird": "body;foot;head;tail;wing",
        "boat": "body;sail",
        "cat": "body;foot;head;tail",
        "dog": "body;foot;head;tail",
        "fish": "body;fin;head;tail",
        "turtle": "body;foot;head;tail",
    },
    PACO_LVIS: {
        "bottle": "base;body;bottom;cap;capsule;closure;handle;heel;inner body;label;neck;punt;"
        "ring;shoulder;sipper;spout;top",
        "hammer": "face;grip;handle;head",
        "handbag": "base;body;bottom;handle;inner body;rim;zip",
        "kettle": "base;body;cable;handle;inner body;lid;spout;switch",
        "knife": "blade;handle",
        "mug": "base;body;bottom;drawing;handle;inner body;rim;text",
        "scissors": "blade;finger hole;handle;screw",
    },
    ADE20K_PART_234: {
        "bus": "bumper;door;headlight;license plate;logo;mirror;wheel;window;wiper",
        "car": "bumper;door;headlight;hood;license plate;logo;mirror;wheel;window;wiper",
        "chair": "apron;arm;back;base;leg;seat;skirt;stretcher",
        "lamp": "arm;base;canopy;cord;highlight;light source;pipe;shade;tube",
        "sofa": "arm;back;back pillow;leg;seat base;seat cushion;skirt",
        "stool": "leg;seat",
        "table": "apron;drawer;leg;shelf;top;wheel",
    },
}


def part_names(source: str, category: str) -> set[str]:
    return {spec.name for spec in CATALOGUE[source][category]}


def test_names_are_in_table_6():
    for source, categories in CATALOGUE.items():
        for category in categories:
            assert part_names(source, category) <= set(TABLE_6[source][category].split(";"))


def test_is_rich_enough_to_learn_from():
    specs = [spec for parts in CATALOGUE.values() for specs in parts.values() for spec in specs]
    num_categories = sum(len(categories) for categories in CATALOGUE.values())
    assert num_categories >= 18
    assert len(specs) >= 62
    optional_share = sum(spec.probability < 1 for spec in specs) / len(specs)
    assert 0.35 < optional_share < 0.65


def test_every_category_always_shows_a_part():
    for categories in CATALOGUE.values():
        for specs in categories.values():
            assert any(spec.probability == 1.0 for spec in specs)


def test_every_drawn_part_has_a_released_id():
    for category in CATALOGUE[PACO_LVIS]:
        assert set(PACO_PART_IDS[category]) == part_names(PACO_LVIS, category)
        assert category in PACO_OBJECTS
    for category in CATALOGUE[ADE20K_PART_234]:
        assert set(ADE_PART_IDS[category]) == part_names(ADE20K_PART_234, category)
        assert category in ADE_OBJECT_IDS
    for category in CATALOGUE[PARTIMAGENET]:
        supercategory = PARTIMAGENET_SUPERCATEGORY[category]
        released = {name.lower() for name in PARTIMAGENET_PARTS_BY_SUPERCATEGORY[supercategory]}
        assert part_names(PARTIMAGENET, category) <= released
        assert PARTIMAGENET_SYNSETS[category]


def test_released_ids_are_unique():
    paco_ids = [fact[0] for fact in PACO_OBJECTS.values()]
    paco_ids += [number for parts in PACO_PART_IDS.values() for number in parts.values()]
    ade_ids = [number for parts in ADE_PART_IDS.values() for number in parts.values()]
    whole_ids = [number for ids in PARTIMAGENET_SYNSETS.values() for number in ids.values()]
    for ids in (paco_ids, ade_ids, whole_ids, list(ADE_OBJECT_IDS.values())):
        assert len(ids) == len(set(ids))
    assert len([p for parts in PARTIMAGENET_PARTS_BY_SUPERCATEGORY.values() for p in parts]) == 40


def test_sources_are_the_catalogue_keys():
    assert set(catalogue.SOURCES) == set(CATALOGUE)
