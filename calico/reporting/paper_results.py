"""The paper's own numbers, copied by hand, to stand beside ours.

They were measured on MixedParts (photographs) with 7-billion-parameter models. A run on another data set is
not comparable with them; the report says so wherever it prints one. Metrics are in percent, as printed.

Source: CALICO, arXiv:2412.19331, Tables 1 to 5 and appendix B.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

METRICS = ("AP50", "mIoU", "Recall", "SS", "S-IoU")

# How the paper names what we call by a short name.
METHOD_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "cascade": "Cascade",
        "partglee": "Multi-Image PartGLEE",
        "vlpart": "Multi-Image VLPart",
        "glamm": "Multi-Image GLaMM",
        "lisa": "Multi-Image LISA",
        "calico": "CALICO",
    }
)

# In sentences and pictures, where "multi-image" goes without saying.
SHORT_TITLES: Mapping[str, str] = MappingProxyType({"calico": "CALICO", "lisa": "LISA", "glamm": "GLaMM"})

Scores = tuple[float, float, float, float, float]


@dataclass(frozen=True)
class PublishedCost:
    """One row of Table 4: recall, tokens an image, TFLOPS, and seconds a sample by task and on average."""

    recall: float
    image_tokens: int
    tflops: float
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class PublishedCounts:
    """One column of Table 3: instances over the whole data set and a sample."""

    total: int
    mean: float
    maximum: int
    median: int


# Table 5; its block "MixedParts" is Table 1. Columns as METRICS.
TABLE_5: Mapping[str, Mapping[str, Scores]] = MappingProxyType(
    {
        "common_objects": {
            "cascade": (7.9, 37.0, 28.2, 38.1, 29.6),
            "partglee": (1.5, 33.5, 9.7, 87.2, 82.8),
            "vlpart": (18.2, 42.4, 45.6, 58.8, 55.2),
            "glamm": (63.2, 71.6, 73.3, 86.5, 86.2),
            "lisa": (60.2, 70.0, 71.9, 86.0, 85.3),
            "calico": (69.2, 75.2, 78.5, 93.7, 93.4),
        },
        "common_parts": {
            "cascade": (3.5, 18.6, 11.7, 25.6, 6.5),
            "partglee": (1.9, 32.0, 10.5, 78.4, 63.3),
            "vlpart": (15.7, 44.5, 29.1, 54.4, 39.9),
            "glamm": (36.7, 52.7, 48.4, 68.5, 59.0),
            "lisa": (37.3, 54.2, 50.5, 73.9, 63.4),
            "calico": (38.4, 56.9, 51.9, 74.4, 64.4),
        },
        "unique_parts": {
            "cascade": (5.7, 28.1, 17.2, 32.8, 8.2),
            "partglee": (0.1, 22.3, 8.8, 69.9, 43.9),
            "vlpart": (6.4, 41.5, 29.0, 64.0, 44.4),
            "glamm": (28.9, 55.3, 43.1, 75.3, 68.4),
            "lisa": (26.6, 55.0, 44.1, 76.2, 68.7),
            "calico": (30.2, 59.1, 48.8, 80.1, 73.4),
        },
        "mean": {
            "cascade": (5.7, 27.9, 19.0, 32.2, 14.8),
            "partglee": (1.2, 29.3, 9.7, 78.5, 63.3),
            "vlpart": (13.4, 42.8, 34.6, 59.1, 46.5),
            "glamm": (42.9, 59.9, 54.9, 76.8, 71.2),
            "lisa": (41.4, 59.7, 55.5, 78.7, 72.5),
            "calico": (45.9, 63.7, 59.7, 82.7, 77.1),
        },
    }
)

# Table 2: CALICO without one of its modules, over the three tasks. Columns as METRICS.
TABLE_2: Mapping[str, Scores] = MappingProxyType(
    {
        "w/o Q-Former": (38.5, 59.2, 44.8, 64.5, 55.6),
        "w/o DINO": (43.9, 61.7, 57.1, 80.2, 74.5),
        "w/o CEM": (43.6, 61.6, 57.5, 80.8, 75.2),
        "w/o CAM": (45.9, 63.3, 59.7, 82.0, 76.5),
        "w/o CEM w/o CAM": (44.1, 62.7, 58.1, 81.6, 76.3),
        "CALICO": (45.9, 63.7, 59.7, 82.7, 77.1),
    }
)

TABLE_3: Mapping[str, PublishedCounts] = MappingProxyType(
    {
        "common_objects": PublishedCounts(2_509_552, 2.099, 10, 2),
        "common_parts": PublishedCounts(3_443_758, 4.037, 56, 4),
        "unique_parts": PublishedCounts(5_557_188, 5.269, 72, 3),
    }
)

TABLE_4: Mapping[str, PublishedCost] = MappingProxyType(
    {
        "glamm": PublishedCost(
            54.9, 576, 42.3, {"common_objects": 8.4, "common_parts": 21.3, "unique_parts": 26.3, "mean": 18.7}
        ),
        "lisa": PublishedCost(
            55.5, 256, 44.0, {"common_objects": 5.5, "common_parts": 14.9, "unique_parts": 18.9, "mean": 13.1}
        ),
        "calico": PublishedCost(
            59.7, 32, 28.5, {"common_objects": 4.3, "common_parts": 10.2, "unique_parts": 12.3, "mean": 9.1}
        ),
    }
)

# Appendix B.
NUM_PAIRS = 2_382_747
NUM_OBJECTS = 65_960
NUM_PARTS = 154_463
NUM_OBJECT_CATEGORIES = 141
NUM_PART_CATEGORIES = 196
