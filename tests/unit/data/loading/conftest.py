"""A few images with objects and parts, and a tokenizer that knows their words."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import PreTrainedTokenizerFast

from calico.config import ModelSection, load_config
from calico.core import masks, tables
from calico.core.records import (
    CaptionPhrase,
    CaptionRecord,
    ImageRecord,
    ObjectInstance,
    PairSample,
    PartInstance,
    Target,
)
from calico.data.pairs.conversation import corpus
from calico.language_models.tokenizer import build_tokenizer

LABELS = ("dog", "dog's head", "dog's tail")


@dataclass(frozen=True)
class SmallData:
    """Folders as the stages write them, and what a data set needs besides."""

    unify_path: Path
    sources_path: Path
    pairs_path: Path
    tokenizer: PreTrainedTokenizerFast
    model: ModelSection
    masks_HW: dict[str, np.ndarray]


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    """Write three images of different sizes, each with a dog, its head and its tail, and pairs of them."""
    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(4)
    images, objects, parts, masks_HW = [], [], [], {}
    for number, (height, width) in enumerate([(40, 60), (60, 40), (50, 50)]):
        image_id = f"a/{number}"
        path = folder / "sources" / "a" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        images.append(ImageRecord(image_id, "a", f"a/{number}.png", height, width, "train"))
        for name, box in {"": (5, 5, 35, 35), "/head": (5, 5, 20, 20), "/tail": (30, 30, 35, 35)}.items():
            mask_HW = np.zeros((height, width), dtype=bool)
            mask_HW[box[0] : box[2], box[1] : box[3]] = True
            masks_HW[f"{image_id}#0{name}"] = mask_HW
        rles = {key: masks.encode(mask) for key, mask in masks_HW.items()}
        objects.append(ObjectInstance(f"{image_id}#0", image_id, "dog", rles[f"{image_id}#0"]))
        parts += [
            PartInstance(
                f"{image_id}#0/{name}", f"{image_id}#0", image_id, name, rles[f"{image_id}#0/{name}"]
            )
            for name in ("head", "tail")
        ]
    write_tables(folder, images, objects, parts)
    return SmallData(
        folder / "unify",
        folder / "sources",
        folder / "pair" / "rows" / "train",
        build_tokenizer([*corpus(LABELS), "A dog runs."], 400),
        load_config("tiny").model,
        masks_HW,
    )


def write_tables(
    folder: Path, images: list[ImageRecord], objects: list[ObjectInstance], parts: list[PartInstance]
) -> None:
    tables.write_images(folder / "unify" / "images.parquet", images)
    tables.write_objects(folder / "unify" / "objects.parquet", objects)
    tables.write_parts(folder / "unify" / "parts.parquet", parts)
    caption = "A dog with the dog's head."
    phrases = (
        CaptionPhrase(0, 5, "A dog", objects[1].rle),
        CaptionPhrase(11, 25, "the dog's head", parts[2].rle),
    )
    records = [CaptionRecord("a/1", caption, phrases), CaptionRecord("a/1", "Nothing.", ())]
    tables.write_captions(folder / "unify" / "captions.parquet", records)

    def target(image_index: int, image: int, part: str | None) -> Target:
        object_id = f"a/{image}#0"
        label = f"dog's {part}" if part else "dog"
        return Target(image_index, label, object_id, f"{object_id}/{part}" if part else None)

    heads_and_tails = (target(0, 1, "head"), target(1, 2, "head"), target(0, 1, "tail"), target(1, 2, "tail"))
    dogs = tuple(target(number, number, None) for number in range(3))
    pairs = [
        PairSample("p0", "common_objects", "a", ("a/0", "a/1"), dogs[:2]),
        PairSample("p1", "common_parts", "a", ("a/1", "a/2"), heads_and_tails),
        PairSample("p2", "unique_parts", "a", ("a/2", "a/0"), (target(1, 0, "tail"),)),
        PairSample("p3", "common_objects", "a", ("a/0", "a/1", "a/2"), dogs),
        PairSample("p4", "common_objects", "a", ("a/2",), (target(0, 2, None),)),
    ]
    tables.write_pairs(folder / "pair" / "train.parquet", pairs)
