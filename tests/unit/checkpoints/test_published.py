"""Every published layout, written from the libraries' own modules, read back, outputs compared."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import Dinov2WithRegistersModel

from calico.checkpoints import published
from calico.checkpoints.layout import PRETRAINED_COMPONENTS, component_path, find_component, find_tokenizer
from calico.checkpoints.loader import load_component
from calico.checkpoints.prepare import prepare_checkpoints
from calico.checkpoints.published import SOURCES, install_published
from calico.checkpoints.shapes import component_shapes
from calico.config import CheckpointsSection, load_config
from calico.core.files import read_json, sha256_of, verify_manifest
from calico.errors import CheckpointError
from calico.language_models.llama import LlamaLanguageModel
from calico.language_models.tokenizer import load_tokenizer
from calico.models.grounding import build_grounding_encoder
from calico.models.mask_decoder import build_f_segmentation, build_mask_decoder, build_prompt_encoder, decode
from calico.models.projection import build_f_image, build_linear_projector, build_mlp_projector
from calico.models.qformer import QFormer
from calico.models.semantic_encoder import build_semantic_encoder, encode_semantic
from calico.models.vision_encoder import build_clip, build_vision_encoder, encode_clip, encode_global
from tests.unit.checkpoints.published_files import (
    SECTION,
    randomise,
    write_clip,
    write_dino,
    write_eva,
    write_instructblip,
    write_lvlm,
    write_sam,
)

TINY_SOURCES = tuple(dataclasses.replace(source, sha256=None, num_bytes=None) for source in SOURCES)
BY_TITLE = {source.title: source for source in TINY_SOURCES}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Write all published files, install them, and return the modules they were written from."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("published")
    llm, clip = SECTION.language_model.hidden_size, SECTION.clip.hidden_size
    # As published: trained at another image size than the one in use.
    trained = SECTION.semantic_encoder.model_copy(update={"image_size_px": 80, "use_swiglu": False})
    dino = randomise(build_semantic_encoder(trained))
    projectors = {
        "mlp_projector": randomise(build_mlp_projector(clip, llm)),
        "linear_projector": randomise(build_linear_projector(clip, llm)),
    }
    written = {
        "sam": write_sam(folder / "sam_vit_h_4b8939.pth"),
        "eva": write_eva(folder / "eva_vit_g.pth"),
        "instructblip": write_instructblip(folder / "instruct_blip_vicuna7b_trimmed.pth"),
        "dino": dino,
        "clip": write_clip(folder / "clip-vit-large-patch14-336"),
        "glamm": write_lvlm(
            folder / "GLaMM-GranD-Pretrained",
            sam_prefix="grounding_encoder",
            projector=projectors["mlp_projector"],
        ),
        "lisa": write_lvlm(
            folder / "LISA-7B-v1", sam_prefix="visual_model", projector=projectors["linear_projector"]
        ),
    }
    write_dino(folder / "dinov2-with-registers-giant", dino)
    output_path = folder / "installed"
    report = install_published(folder, output_path, SECTION, sources=TINY_SOURCES)
    return {**written, **projectors, "folder": folder, "output": output_path, "report": report}


def loaded(
    reference: dict[str, Any], module: nn.Module, component: str, variant: str = "calico"
) -> nn.Module:
    load_component(module, find_component(reference["output"], component, variant))
    return module.eval()


def test_sam(reference: dict[str, Any]) -> None:
    sam, images = reference["sam"], torch.randn(2, 3, 32, 32)
    encoder = loaded(reference, build_grounding_encoder(SECTION.grounding), "grounding_encoder")
    prompt_encoder = loaded(reference, build_prompt_encoder(SECTION.grounding), "prompt_encoder")
    # Measured worst case 0.
    torch.testing.assert_close(encoder(images), sam.image_encoder(images), rtol=0, atol=1e-6)
    assert torch.equal(prompt_encoder.get_dense_pe(), sam.prompt_encoder.get_dense_pe())
    assert torch.equal(prompt_encoder.no_mask_embed.weight, sam.prompt_encoder.no_mask_embed.weight)


def test_eva_clip_with_the_layer_norm_of_instructblip(reference: dict[str, Any]) -> None:
    encoder = loaded(reference, build_vision_encoder(SECTION.vision_encoder), "vision_encoder")
    images = torch.randn(2, 3, 32, 32)
    _, lavis = reference["instructblip"]
    hidden = reference["eva"](images, SECTION.vision_encoder.num_layers)
    expected = nn.functional.layer_norm(
        hidden, hidden.shape[-1:], lavis["ln_vision.weight"], lavis["ln_vision.bias"], eps=1e-6
    )
    # Measured worst case 1.2e-6.
    torch.testing.assert_close(encode_global(encoder, images), expected, rtol=0, atol=1e-5)


def test_qformer_and_f_image(reference: dict[str, Any]) -> None:
    whole, lavis = reference["instructblip"]
    width = SECTION.vision_encoder.hidden_size
    qformer = loaded(reference, QFormer(SECTION.qformer, width), "qformer")
    f_image = loaded(
        reference, build_f_image(SECTION.qformer.hidden_size, SECTION.language_model.hidden_size), "f_image"
    )
    image = torch.randn(2, 5, width)
    queries = lavis["query_tokens"].expand(2, -1, -1)
    expected = whole(input_ids=None, query_embeds=queries, encoder_hidden_states=image).last_hidden_state
    assert torch.equal(qformer(image), expected)
    projected = expected @ lavis["llm_proj.weight"].T + lavis["llm_proj.bias"]
    # Measured worst case 0.
    torch.testing.assert_close(f_image(qformer(image)), projected, rtol=0, atol=1e-5)


def test_dinov2_trained_at_another_image_size(reference: dict[str, Any]) -> None:
    stock: Dinov2WithRegistersModel = reference["dino"]
    encoder = loaded(reference, build_semantic_encoder(SECTION.semantic_encoder), "semantic_encoder")
    assert encoder.embeddings.position_embeddings.shape[1] == 1 + 4
    assert stock.embeddings.position_embeddings.shape[1] == 1 + 25
    images = torch.randn(2, 3, 32, 32)
    # Measured worst case 0: transformers interpolates the same way on every call.
    torch.testing.assert_close(
        encode_semantic(encoder, images), encode_semantic(stock, images), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        encoder(images).last_hidden_state, stock(images).last_hidden_state, rtol=0, atol=1e-5
    )


def test_dinov2_with_gated_feed_forward(tmp_path: Path) -> None:
    section = SECTION.model_copy(
        update={"semantic_encoder": SECTION.semantic_encoder.model_copy(update={"use_swiglu": True})}
    )
    torch.manual_seed(1)
    stock = randomise(build_semantic_encoder(section.semantic_encoder))
    write_dino(tmp_path / "dinov2-with-registers-giant", stock)
    install_published(tmp_path, tmp_path / "out", section, sources=(BY_TITLE["DINOv2-g with registers"],))
    encoder = build_semantic_encoder(section.semantic_encoder).eval()
    load_component(encoder, component_path(tmp_path / "out", "semantic_encoder"))
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(encoder(images).last_hidden_state, stock(images).last_hidden_state)


def test_clip(reference: dict[str, Any]) -> None:
    encoder = loaded(reference, build_clip(SECTION.clip), "clip")
    images = torch.randn(2, 3, 48, 48)
    stock = reference["clip"].vision_model(images, output_hidden_states=True).hidden_states[-2][:, 1:]
    assert torch.equal(encode_clip(encoder, images), stock)


@pytest.mark.parametrize(
    ("family", "variant", "projector"),
    [("glamm", "calico", "mlp_projector"), ("lisa", "lisa", "linear_projector")],
)
def test_language_model_and_masks(
    reference: dict[str, Any], family: str, variant: str, projector: str
) -> None:
    stock = reference[family]
    tokenizer = load_tokenizer(find_tokenizer(reference["output"], variant))
    ours = LlamaLanguageModel(SECTION.language_model, len(tokenizer)).eval()
    loaded(reference, ours.stock, "language_model", variant)
    ids = torch.randint(3, len(tokenizer), (2, 9))
    # Measured worst case 0.
    torch.testing.assert_close(
        ours.head(ours.run(ours.embed(ids), None)), stock["language_model"](ids).logits, rtol=0, atol=1e-5
    )
    grounding, states = SECTION.grounding, torch.randn(3, SECTION.language_model.hidden_size)
    f_segmentation = build_f_segmentation(states.shape[1], grounding.prompt_width)
    prompts = loaded(reference, f_segmentation, "f_segmentation", variant)(states)
    assert torch.equal(prompts, stock["f_segmentation"](states))
    decoder = loaded(reference, build_mask_decoder(grounding), "mask_decoder", variant)
    prompt_encoder = loaded(reference, build_prompt_encoder(grounding), "prompt_encoder", variant)
    images = torch.randn(3, grounding.prompt_width, 4, 4)
    masks, _ = decode(decoder, prompt_encoder, prompts, images)
    expected, _ = decode(stock["mask_decoder"], prompt_encoder, prompts, images)
    assert torch.equal(masks, expected)
    features = torch.randn(2, SECTION.clip.hidden_size)
    build = build_mlp_projector if projector == "mlp_projector" else build_linear_projector
    module = loaded(reference, build(features.shape[1], states.shape[1]), projector, variant)
    assert torch.equal(module(features), reference[projector](features))


def test_lisa_has_its_own_parts_and_the_others_share_glamms(reference: dict[str, Any]) -> None:
    own = {path.stem for path in (reference["output"] / "lisa").glob("*.safetensors")}
    assert own == {"language_model", "f_segmentation", "mask_decoder", "linear_projector"}
    shared = {path.stem for path in reference["output"].glob("*.safetensors")}
    assert shared | own == set(PRETRAINED_COMPONENTS)
    assert find_component(reference["output"], "clip", "lisa") == component_path(reference["output"], "clip")


def test_the_report_accounts_for_every_tensor(reference: dict[str, Any]) -> None:
    report = reference["report"]
    folder = reference["folder"]
    assert {entry["source"] for entry in report["vision_encoder"]} == {"EVA-CLIP-g", "InstructBLIP Vicuna-7B"}
    for name, entries in report.items():
        component = name.rpartition("/")[2]
        if component == "tokenizer":
            continue
        shapes = component_shapes(SECTION, component, vocabulary_size=300)
        assert sum(entry["loaded"] for entry in entries) == len(shapes), name
    (entry,) = report["grounding_encoder"]
    in_file = torch.load(folder / "sam_vit_h_4b8939.pth", weights_only=True)
    decoder = [name for name in in_file if name.startswith("mask_decoder.")]
    assert entry["not_needed_in_file"] == len(decoder)
    assert entry["tensors_in_file"] == len(in_file)
    assert entry["sha256"] == {"sam_vit_h_4b8939.pth": sha256_of(folder / "sam_vit_h_4b8939.pth")}


def test_precision_stays_as_published(tmp_path: Path) -> None:
    path = tmp_path / "sam_vit_h_4b8939.pth"
    sam = write_sam(path)
    torch.save({name: tensor.bfloat16() for name, tensor in sam.state_dict().items()}, path)
    install_published(tmp_path, tmp_path / "out", SECTION, sources=(BY_TITLE["SAM ViT-H"],))
    tensors = load_file(component_path(tmp_path / "out", "prompt_encoder"))
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


def test_the_stage_installs_everything_and_its_manifest_holds(
    reference: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(folder: Path, output: Path, section: Any) -> dict[str, Any]:
        return install_published(folder, output, section, sources=TINY_SOURCES)

    monkeypatch.setattr("calico.checkpoints.prepare.install_published", install)
    section = CheckpointsSection(kind="published", folder=str(reference["folder"]))
    report = prepare_checkpoints(section, SECTION, tmp_path)
    assert report["kind"] == "published"
    assert read_json(tmp_path / "report.json") == report
    assert "lisa/language_model.safetensors" in verify_manifest(tmp_path)["files"]


def test_all_missing_files_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="7 of 7 published checkpoints are missing") as caught:
        install_published(tmp_path, tmp_path / "out", SECTION)
    assert all(source.place in str(caught.value) and source.url in str(caught.value) for source in SOURCES)
    assert not (tmp_path / "out").exists()


def test_a_file_of_another_size_or_digest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sam_vit_h_4b8939.pth"
    write_sam(path)
    with pytest.raises(CheckpointError, match=r"bytes, SAM ViT-H has 2564550879"):
        install_published(tmp_path, tmp_path / "out", SECTION, sources=(SOURCES[0],))
    source = dataclasses.replace(SOURCES[0], num_bytes=None)
    with pytest.raises(CheckpointError, match="expected a7bf3b02f3ebf1267"):
        install_published(tmp_path, tmp_path / "out", SECTION, sources=(source,))


@pytest.mark.parametrize("kept", [0, 100, -100])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "eva_vit_g.pth"
    write_eva(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"eva_vit_g\.pth: not a complete file of weights"):
        install_published(tmp_path, tmp_path / "out", SECTION, sources=(BY_TITLE["EVA-CLIP-g"],))


def test_a_foreign_checkpoint_is_described(tmp_path: Path) -> None:
    write_sam(tmp_path / "eva_vit_g.pth")
    with pytest.raises(CheckpointError) as caught:
        install_published(tmp_path, tmp_path / "out", SECTION, sources=(BY_TITLE["EVA-CLIP-g"],))
    message = str(caught.value)
    assert "eva_vit_g.pth: not EVA-CLIP-g of the size in params.yaml" in message
    assert "missing (vision_encoder.embeddings.class_embedding" in message
    assert "unexpected (image_encoder.pos_embed" in message
    assert "the first are image_encoder.blocks.0.attn.proj.bias" in message
    assert "expected are names such as blocks.0.attn.q_bias" in message


def test_a_file_without_the_right_root_is_refused(tmp_path: Path) -> None:
    write_sam(tmp_path / "instruct_blip_vicuna7b_trimmed.pth")
    with pytest.raises(CheckpointError, match=r"no dictionary 'model'; it holds \d+ entries \(image_encoder"):
        install_published(tmp_path, tmp_path / "out", SECTION, sources=(BY_TITLE["InstructBLIP Vicuna-7B"],))


def test_a_missing_layer_an_extra_name_and_another_width_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "sam_vit_h_4b8939.pth"
    state = write_sam(path).state_dict()
    removed = "image_encoder.blocks.0.norm1.weight"
    torch.save({name: tensor for name, tensor in state.items() if name != removed}, path)
    source = (BY_TITLE["SAM ViT-H"],)
    with pytest.raises(CheckpointError, match=r"1 missing \(grounding_encoder.blocks.0.norm1.weight\)"):
        install_published(tmp_path, tmp_path / "out", SECTION, sources=source)
    torch.save({**state, "image_encoder.blocks.9.norm1.weight": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match=r"1 unexpected \(image_encoder.blocks.9.norm1.weight\)"):
        install_published(tmp_path, tmp_path / "out", SECTION, sources=source)
    torch.save({**state, "optimizer.step": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match=r"1 unexpected \(optimizer.step\)"):
        install_published(tmp_path, tmp_path / "out", SECTION, sources=source)
    torch.save({**state, "prompt_encoder.no_mask_embed.weight": torch.ones(1, 3)}, path)
    with pytest.raises(
        CheckpointError, match=r"of another shape \(prompt_encoder.no_mask_embed.weight \(1, 3\)"
    ):
        install_published(tmp_path, tmp_path / "out", SECTION, sources=source)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.path, "boom"))


@pytest.mark.parametrize("is_zip", [True, False])
def test_pickled_code_is_never_run(tmp_path: Path, is_zip: bool) -> None:
    trace = tmp_path / "trace"
    torch.save(
        {"cls_token": torch.ones(1), "bomb": Bomb(trace)},
        tmp_path / "eva_vit_g.pth",
        _use_new_zipfile_serialization=is_zip,
    )
    with pytest.raises(CheckpointError, match="Pickled code is never run"):
        install_published(tmp_path, tmp_path / "out", SECTION, sources=(BY_TITLE["EVA-CLIP-g"],))
    assert not trace.exists()


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3, "cls_token": torch.ones(1)}, {}])
def test_what_is_no_dictionary_of_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "eva_vit_g.pth")
    with pytest.raises(CheckpointError, match=r"not tensors by name|are no tensors"):
        install_published(tmp_path, tmp_path / "out", SECTION, sources=(BY_TITLE["EVA-CLIP-g"],))


def test_an_old_file_that_is_no_zip_is_read(tmp_path: Path) -> None:
    path = tmp_path / "eva_vit_g.pth"
    eva = write_eva(path, num_extra_blocks=0)
    torch.save(eva.state_dict(), path, _use_new_zipfile_serialization=False)
    published.install_published(tmp_path, tmp_path / "out", SECTION, sources=(BY_TITLE["EVA-CLIP-g"],))


def test_a_lost_shard_and_an_index_that_leads_elsewhere_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "LISA-7B-v1"
    write_lvlm(folder, sam_prefix="visual_model", projector=nn.Linear(1, 1))
    source = (BY_TITLE["LISA-7B-v1"],)
    (folder / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(CheckpointError, match=r"pytorch_model-00002-of-00002\.bin are missing"):
        install_published(tmp_path, tmp_path / "out", SECTION, sources=source)
    index_path = folder / "pytorch_model.bin.index.json"
    index_path.write_text(json.dumps({"weight_map": {"a": "../elsewhere.bin"}}))
    with pytest.raises(CheckpointError, match="lie elsewhere"):
        install_published(tmp_path, tmp_path / "out", SECTION, sources=source)
    index_path.write_text("[]")
    with pytest.raises(CheckpointError, match="has no 'weight_map'"):
        install_published(tmp_path, tmp_path / "out", SECTION, sources=source)
    index_path.unlink()
    with pytest.raises(CheckpointError, match="holds none of"):
        install_published(tmp_path, tmp_path / "out", SECTION, sources=source)


def test_every_component_has_exactly_one_reader_at_the_papers_size() -> None:
    section = load_config("paper").model
    held: dict[str, int] = {}
    for source in SOURCES:
        for component, pattern in source.holds.items():
            name = f"{source.folder}/{component}"
            names = component_shapes(section, component, vocabulary_size=32007)
            held[name] = held.get(name, 0) + sum(bool(re.fullmatch(pattern, one)) for one in names)
    for name, count in held.items():
        component = name.partition("/")[2]
        assert count == len(component_shapes(section, component, vocabulary_size=32007)), name
    assert {name.partition("/")[2] for name in held} == set(PRETRAINED_COMPONENTS)
