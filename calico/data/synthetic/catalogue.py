"""What the synthetic data sets contain: categories, their parts, and released spellings and ids."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PARTIMAGENET = "partimagenet"
PACO_LVIS = "paco_lvis"
ADE20K_PART_234 = "ade20k_part_234"
SOURCES = (PARTIMAGENET, PACO_LVIS, ADE20K_PART_234)


@dataclass(frozen=True)
class PartSpec:
    """A part that a category may show, and how often a scene draws it."""

    name: str
    probability: float


# A fair coin for the optional parts: knowing the category then does not tell the parts.
_OPTIONAL = 0.5


def _parts(always: str, optional: str = "") -> tuple[PartSpec, ...]:
    """Read two `;`-separated lists of part names into specifications."""
    return tuple(PartSpec(name, 1.0) for name in always.split(";")) + tuple(
        PartSpec(name, _OPTIONAL) for name in optional.split(";") if name
    )


# Names and parts are a subset of the paper's Table 6.
CATALOGUE: Mapping[str, Mapping[str, tuple[PartSpec, ...]]] = MappingProxyType(
    {
        PARTIMAGENET: {
            "airplane": _parts("body;head;wing", "engine;tail"),
            "bird": _parts("body;head", "foot;tail;wing"),
            "boat": _parts("body", "sail"),
            "cat": _parts("body;head", "foot;tail"),
            "dog": _parts("body;head", "foot;tail"),
            "fish": _parts("body;head;tail", "fin"),
            "turtle": _parts("body;head", "foot"),
        },
        PACO_LVIS: {
            "bottle": _parts("body;neck", "cap;label"),
            "hammer": _parts("handle;head", "grip"),
            "handbag": _parts("body;handle", "base;zip"),
            "kettle": _parts("body;handle;spout", "base;lid"),
            "knife": _parts("blade;handle"),
            "mug": _parts("body;rim", "drawing;handle"),
            "scissors": _parts("blade;handle"),
        },
        ADE20K_PART_234: {
            "bus": _parts("wheel;window", "door;headlight"),
            "car": _parts("wheel;window", "bumper;door;headlight"),
            "chair": _parts("back;leg;seat", "arm"),
            "lamp": _parts("base;shade;tube", "cord"),
            "sofa": _parts("arm;back;seat base", "back pillow;leg"),
            "stool": _parts("leg;seat"),
            "table": _parts("leg;top", "drawer;shelf"),
        },
    }
)

# ---- Spellings and ids of the releases, for the drawn categories only ----

# PartImageNet Seg: id of a part category = place of "Supercategory Part" in this order.
PARTIMAGENET_PARTS_BY_SUPERCATEGORY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Quadruped": ("Head", "Body", "Foot", "Tail"),
        "Biped": ("Head", "Body", "Hand", "Foot", "Tail"),
        "Fish": ("Head", "Body", "Fin", "Tail"),
        "Bird": ("Head", "Body", "Wing", "Foot", "Tail"),
        "Snake": ("Head", "Body"),
        "Reptile": ("Head", "Body", "Foot", "Tail"),
        "Car": ("Body", "Tier", "Side Mirror"),
        "Bicycle": ("Body", "Head", "Seat", "Tier"),
        "Boat": ("Body", "Sail"),
        "Aeroplane": ("Head", "Body", "Engine", "Wing", "Tail"),
        "Bottle": ("Mouth", "Body"),
    }
)

PARTIMAGENET_SUPERCATEGORY: Mapping[str, str] = MappingProxyType(
    {
        "airplane": "Aeroplane",
        "bird": "Bird",
        "boat": "Boat",
        "cat": "Quadruped",
        "dog": "Quadruped",
        "fish": "Fish",
        "turtle": "Reptile",
    }
)

# Some ImageNet synsets of each category, with their place among the 158 synsets, sorted.
# The class numbers of the `_whole` PNGs are not published; this order is our assumption.
PARTIMAGENET_SYNSETS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "airplane": {"n02690373": 122, "n04552348": 154},
        "bird": {"n01608432": 5, "n01614925": 6, "n01824575": 42, "n01828970": 43},
        "boat": {"n03947888": 140, "n04147183": 146, "n04483307": 151, "n04612504": 157},
        "cat": {"n02124075": 75},
        "dog": {"n02085782": 55, "n02089867": 56, "n02090379": 57, "n02091831": 58},
        "fish": {"n01440764": 0, "n01443537": 1, "n02514041": 118, "n02536864": 119},
        "turtle": {"n01664065": 12, "n01665541": 13, "n01667114": 14, "n01667778": 15},
    }
)

# PACO-LVIS v1: id, WordNet synset and frequency class of the released object categories.
PACO_OBJECTS: Mapping[str, tuple[int, str, str]] = MappingProxyType(
    {
        "bottle": (133, "bottle.n.01", "f"),
        "hammer": (530, "hammer.n.02", "c"),
        "handbag": (35, "bag.n.04", "f"),
        "kettle": (604, "kettle.n.01", "c"),
        "knife": (615, "knife.n.01", "f"),
        "mug": (708, "mug.n.04", "f"),
        "scissors": (923, "scissors.n.01", "f"),
    }
)

PACO_PART_IDS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "bottle": {"body": 2047, "cap": 2113, "label": 2248, "neck": 2285},
        "hammer": {"grip": 2166, "handle": 2173, "head": 2196},
        "handbag": {"base": 2020, "body": 2057, "handle": 2178, "zip": 2455},
        "kettle": {"base": 2030, "body": 2066, "handle": 2188, "lid": 2265, "spout": 2382},
        "knife": {"blade": 2041, "handle": 2189},
        "mug": {"body": 2062, "drawing": 2137, "handle": 2182, "rim": 2318},
        "scissors": {"blade": 2045, "handle": 2174},
    }
)

# ADE20K-Part-234: object ids 0..43 and part class ids 0..233 of the released lists.
ADE_OBJECT_IDS: Mapping[str, int] = MappingProxyType(
    {"bus": 5, "car": 7, "chair": 8, "lamp": 21, "sofa": 33, "stool": 34, "table": 36}
)

ADE_PART_IDS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "bus": {"door": 136, "headlight": 137, "wheel": 141, "window": 142},
        "car": {"bumper": 125, "door": 126, "headlight": 127, "wheel": 132, "window": 133},
        "chair": {"arm": 45, "back": 46, "leg": 48, "seat": 49},
        "lamp": {"base": 31, "cord": 34, "shade": 37, "tube": 38},
        "sofa": {"arm": 102, "back": 103, "back pillow": 104, "leg": 105, "seat base": 106},
        "stool": {"leg": 100, "seat": 101},
        "table": {"drawer": 71, "leg": 72, "shelf": 73, "top": 74},
    }
)
