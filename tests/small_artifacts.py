"""A very small artifacts folder: the pipeline's files up to the pair stage, and random pretrained parts."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from calico.assembly import ALIGNED_FILE, TRAINED_FILE, open_aligned, open_pretrained
from calico.checkpoints.layout import PRETRAINED_COMPONENTS, component_path, tokenizer_path
from calico.checkpoints.loader import save_component, save_trained
from calico.config import Config, VariantName, load_config
from calico.core import tables
from calico.core.files import write_manifest
from calico.core.masks import encode
from calico.core.records import (
    CaptionPhrase,
    CaptionRecord,
    ImageRecord,
    ObjectInstance,
    PairSample,
    PartInstance,
    Target,
)
from calico.core.tokens import SEG, TASKS
from calico.data.pairs.conversation import corpus
from calico.language_models.tokenizer import build_tokenizer, save_tokenizer
from calico.models.model import build_model
from calico.models.trainable import set_trainable

IMAGE_SIZE = (40, 48)
CATEGORIES = {"dog": ("head", "tail"), "mug": ("handle", "body")}
LABELS = [*CATEGORIES, *(f"{category}'s {part}" for category, parts in CATEGORIES.items() for part in parts)]
_COLOURS = {"dog": (200, 120, 40), "mug": (40, 90, 200)}


def small_config() -> Config:
    """Return the tiny profile with every dimension cut down."""
    tiny = load_config("tiny")
    model = tiny.model.model_dump()
    model["vision_encoder"] |= {"hidden_size": 16, "intermediate_size": 32, "num_layers": 1, "num_heads": 2}
    model["vision_encoder"] |= {"image_size_px": 32}
    model["semantic_encoder"] |= {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "image_size_px": 32}
    model["clip"] |= {"hidden_size": 16, "intermediate_size": 32, "num_layers": 2, "num_heads": 2}
    model["clip"] |= {"trained_image_size_px": 32}
    model["qformer"] |= {"num_queries": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2}
    model["language_model"] |= {"hidden_size": 32, "intermediate_size": 64, "num_layers": 3, "num_heads": 2}
    model["grounding"] |= {"image_size_px": 64, "hidden_size": 16, "num_layers": 1, "num_heads": 2}
    model["grounding"] |= {"global_layers": [0], "prompt_width": 16, "decoder_heads": 2, "decoder_mlp": 32}
    model["cem"] |= {"num_heads": 2}
    model["variants"]["calico"] |= {"cam_layers": [1, 2]}
    model["variants"]["lisa"] |= {"clip_image_size_px": 32}
    model["variants"]["glamm"] |= {"clip_image_size_px": 48}
    ablations = {
        name: ablation.model_copy(update={"cam_layers": [1, 2][: len(ablation.cam_layers)]})
        for name, ablation in tiny.ablations.items()
    }
    train = {"num_steps": 4, "batch_size": 3, "warmup_steps": 2, "mask_loss_px": 32, "log_every": 2}
    return tiny.model_copy(
        update={
            "runtime": tiny.runtime.model_copy(update={"num_threads": 1}),
            "model": type(tiny.model).model_validate(model),
            "align": tiny.align.model_copy(update=train),
            "finetune": tiny.finetune.model_copy(update=train),
            "predict": tiny.predict.model_copy(update={"batch_size": 2, "max_new_tokens": 12}),
            "ablations": ablations,
        }
    )


def write_tables(artifacts_path: Path, *, num_images: int = 6) -> None:
    """Write images of coloured squares with parts, and pairs of every task in every split."""
    folder = artifacts_path / "sources" / "paco_lvis"
    folder.mkdir(parents=True)
    images, objects, parts = [], [], []
    for number in range(num_images):
        category = list(CATEGORIES)[number % 2]
        image_id, object_id = f"paco_lvis/{number}", f"paco_lvis/{number}#0"
        left, width = 4 + 2 * number, 20
        image_HWC = np.random.default_rng(number).integers(0, 60, (*IMAGE_SIZE, 3), dtype=np.uint8)
        image_HWC[8:32, left : left + width] += np.array(_COLOURS[category], dtype=np.uint8) // 2
        Image.fromarray(image_HWC).save(folder / f"{number}.png")
        path = f"paco_lvis/{number}.png"
        images.append(ImageRecord(image_id, "paco_lvis", path, *IMAGE_SIZE, "train"))
        objects.append(ObjectInstance(object_id, image_id, category, _box_mask(8, 32, left, left + width)))
        for half, part in enumerate(CATEGORIES[category]):
            start = left + half * width // 2
            mask = _box_mask(8, 32, start, start + width // 2)
            parts.append(PartInstance(f"{object_id}/{half}", object_id, image_id, part, mask))
    tables.write_images(artifacts_path / "unify" / "images.parquet", images)
    tables.write_objects(artifacts_path / "unify" / "objects.parquet", objects)
    tables.write_parts(artifacts_path / "unify" / "parts.parquet", parts)
    tables.write_captions(
        artifacts_path / "unify" / "captions.parquet", [_caption(entry) for entry in objects]
    )
    pairs = [
        _pair(task, objects[row], objects[(row + 2) % num_images])
        for task in TASKS
        for row in range(num_images)
    ]
    for split in ("train", "val", "test"):
        tables.write_pairs(artifacts_path / "pair" / f"{split}.parquet", pairs)


def write_checkpoints(artifacts_path: Path, config: Config) -> None:
    """Write what the stage checkpoints does, with random weights."""
    folder = artifacts_path / "checkpoints"
    tokenizer = build_tokenizer(corpus(LABELS), vocabulary_size=420)
    save_tokenizer(tokenizer, tokenizer_path(folder))
    torch.manual_seed(0)
    for variant in ("calico", "lisa", "glamm"):
        model = build_model(
            config.model,
            variant,
            vocabulary_size=len(tokenizer),
            seg_id=tokenizer.get_vocab()[SEG],
            eos_id=tokenizer.eos_token_id,
        )
        for name in PRETRAINED_COMPONENTS:
            if name in model.components:
                save_component(model.components[name], component_path(folder, name))


def write_finetuned(artifacts_path: Path, config: Config, variant: VariantName) -> None:
    """Write what align and finetune do, with random weights; needs the checkpoints."""
    if variant == "calico":
        model = open_pretrained(config.model, variant, artifacts_path).model
        set_trainable(model, "align")
        save_trained(model, artifacts_path / "align" / ALIGNED_FILE)
    assembly = open_aligned(config.model, variant, artifacts_path)
    set_trainable(assembly.model, "finetune")
    folder = artifacts_path / "finetune" / variant
    save_trained(assembly.model, folder / TRAINED_FILE, facts={"variant": variant})
    write_manifest(folder, pretrained=dict(assembly.digests))


def _box_mask(top: int, bottom: int, left: int, right: int):
    mask_HW = np.zeros(IMAGE_SIZE, dtype=bool)
    mask_HW[top:bottom, left:right] = True
    return encode(mask_HW)


def _caption(instance: ObjectInstance) -> CaptionRecord:
    text = f"a {instance.category}"
    phrase = CaptionPhrase(2, len(text), instance.category, instance.rle)
    return CaptionRecord(instance.image_id, text, (phrase,))


def _pair(task: str, first: ObjectInstance, second: ObjectInstance) -> PairSample:
    if task == "common_objects":
        targets = [
            Target(index, first.category, entry.object_id, None)
            for index, entry in enumerate((first, second))
        ]
    else:
        half = 0 if task == "common_parts" else 1
        label = f"{first.category}'s {CATEGORIES[first.category][half]}"
        targets = [
            Target(index, label, entry.object_id, f"{entry.object_id}/{half}")
            for index, entry in enumerate((first, second))
        ]
    pair_id = f"{task}/{first.image_id}-{second.image_id}"
    return PairSample(pair_id, task, "paco_lvis", (first.image_id, second.image_id), tuple(targets))
