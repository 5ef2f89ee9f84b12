"""Files in every published layout, from tiny random modules of the libraries that they come from."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from segment_anything.modeling import Sam
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    InstructBlipQFormerConfig,
    InstructBlipQFormerModel,
    LlamaForCausalLM,
)
from transformers.convert_slow_tokenizer import import_protobuf

from calico.config import ModelSection
from calico.language_models.llama import LlamaLanguageModel
from calico.models.grounding import build_grounding_encoder
from calico.models.mask_decoder import build_mask_decoder, build_prompt_encoder
from tests.unit.models.small import small_section

SECTION: ModelSection = small_section()
WORDS = ("the", "dog", "cat", "head", "of", "a", "(", ")", "IMAGE", "1", "2", "USER", ":", "<", ">", "p", "/")
ADDED = {
    "GLaMM-GranD-Pretrained": ["<im_start>", "<im_end>", "<bbox>", "<point>", "[SEG]", "<p>", "</p>"],
    "LISA-7B-v1": ["<im_patch>", "<im_start>", "<im_end>", "[SEG]"],
}


def randomise(module: nn.Module) -> nn.Module:
    """Give every parameter a value of its own, zero-initialised ones too."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return module.eval()


def _sam() -> Sam:
    section = SECTION.grounding
    return randomise(
        Sam(build_grounding_encoder(section), build_prompt_encoder(section), build_mask_decoder(section))
    )


def write_sam(path: Path) -> Sam:
    """Write segment-anything's own Sam, as its checkpoints are."""
    sam = _sam()
    torch.save(sam.state_dict(), path)
    return sam


class EvaVit(nn.Module):
    """EVA's vision transformer by LAVIS's names: the query and value biases apart, keys without one."""

    def __init__(self, width: int, hidden: int, num_blocks: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, 16, 16)
        self.blocks = nn.ModuleList(self._block(width, hidden) for _ in range(num_blocks))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 7)

    @staticmethod
    def _block(width: int, hidden: int) -> nn.Module:
        block = nn.Module()
        block.norm1, block.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        block.attn = nn.Module()
        block.attn.qkv, block.attn.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        block.attn.q_bias = nn.Parameter(torch.zeros(width))
        block.attn.v_bias = nn.Parameter(torch.zeros(width))
        block.mlp = nn.Module()
        block.mlp.fc1, block.mlp.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        return block

    def forward(self, images: Tensor, num_blocks: int) -> Tensor:
        patches = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        hidden = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks[:num_blocks]:
            hidden = hidden + self._attend(block.attn, block.norm1(hidden))
            hidden = hidden + block.mlp.fc2(nn.functional.gelu(block.mlp.fc1(block.norm2(hidden))))
        return hidden

    def _attend(self, attention: nn.Module, hidden: Tensor) -> Tensor:
        bias = torch.cat([attention.q_bias, torch.zeros_like(attention.v_bias), attention.v_bias])
        joined = nn.functional.linear(hidden, attention.qkv.weight, bias)
        query, key, value = (
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in joined.chunk(3, dim=2)
        )
        weights = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(dim=-1)
        return attention.proj((weights @ value).transpose(1, 2).flatten(2))


def write_eva(path: Path, *, num_extra_blocks: int = 1) -> EvaVit:
    """Write EVA-CLIP with the block and the head that BLIP-2 leaves out."""
    encoder = SECTION.vision_encoder
    eva = randomise(
        EvaVit(
            encoder.hidden_size,
            encoder.intermediate_size,
            encoder.num_layers + num_extra_blocks,
            encoder.num_heads,
        )
    )
    torch.save(eva.state_dict(), path)
    return eva


def write_instructblip(path: Path) -> tuple[InstructBlipQFormerModel, dict[str, Tensor]]:
    """Write LAVIS's trimmed file from transformers' whole Q-Former, its text half too."""
    section, width = SECTION.qformer, SECTION.vision_encoder.hidden_size
    qformer = randomise(
        InstructBlipQFormerModel(
            InstructBlipQFormerConfig(
                vocab_size=13,
                hidden_size=section.hidden_size,
                intermediate_size=section.intermediate_size,
                num_hidden_layers=section.num_layers,
                num_attention_heads=section.num_heads,
                cross_attention_frequency=section.cross_attention_frequency,
                encoder_hidden_size=width,
            )
        )
    )
    lavis = {}
    for name, tensor in qformer.state_dict().items():
        published = name.replace("embeddings.layernorm.", "embeddings.LayerNorm.")
        lavis["Qformer.bert." + published.replace("attention.attention.", "attention.self.")] = tensor
    lavis["Qformer.bert.embeddings.position_ids"] = torch.arange(9)[None]
    lavis["query_tokens"] = torch.randn(1, section.num_queries, section.hidden_size)
    lavis["llm_proj.weight"] = torch.randn(SECTION.language_model.hidden_size, section.hidden_size)
    lavis["llm_proj.bias"] = torch.randn(SECTION.language_model.hidden_size)
    lavis |= {"ln_vision.weight": torch.randn(width), "ln_vision.bias": torch.randn(width)}
    torch.save({"model": lavis}, path)
    return qformer, lavis


def write_dino(folder: Path, encoder: nn.Module) -> None:
    """Write a DINOv2 of transformers by the names that its repository uses."""
    old = {
        ".attention.q_proj.": ".attention.attention.query.",
        ".attention.k_proj.": ".attention.attention.key.",
        ".attention.v_proj.": ".attention.attention.value.",
        ".attention.o_proj.": ".attention.output.dense.",
        ".mlp.down_proj.": ".mlp.weights_out.",
    }
    tensors = {}
    state = encoder.state_dict()
    for name, tensor in state.items():
        if ".up_proj." in name:
            continue
        if ".gate_proj." in name:
            joined = torch.cat([tensor, state[name.replace("gate_proj", "up_proj")]])
            tensors[name.replace("gate_proj", "weights_in")] = joined
            continue
        published = name
        for current, former in old.items():
            published = published.replace(current, former)
        tensors[published] = tensor.contiguous()
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")


def write_clip(folder: Path) -> CLIPModel:
    """Write transformers' whole CLIP, text half too."""
    section = SECTION.clip
    vision = {
        "hidden_size": section.hidden_size,
        "intermediate_size": section.intermediate_size,
        "num_hidden_layers": section.num_layers,
        "num_attention_heads": section.num_heads,
        "image_size": section.trained_image_size_px,
        "patch_size": section.patch_size_px,
    }
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    clip = randomise(CLIPModel(CLIPConfig(vision_config=vision, text_config=text | {"vocab_size": 9})))
    folder.mkdir()
    buffers = {"vision_model.embeddings.position_ids": torch.arange(10)[None]}
    torch.save({**clip.state_dict(), **buffers}, folder / "pytorch_model.bin")
    return clip


def write_lvlm(folder: Path, *, sam_prefix: str, projector: nn.Module) -> dict[str, nn.Module]:
    """Write GLaMM or LISA in two shards of pickled tensors, with a tokenizer."""
    folder.mkdir()
    num_tokens = write_tokenizer(folder, ADDED[folder.name])
    section, grounding = SECTION.language_model, SECTION.grounding
    llama: LlamaForCausalLM = randomise(LlamaLanguageModel(section, num_tokens).stock)
    f_segmentation = nn.Sequential(
        nn.Linear(section.hidden_size, section.hidden_size),
        nn.ReLU(),
        nn.Linear(section.hidden_size, grounding.prompt_width),
        nn.Dropout(0.0),
    )
    sam = _sam()
    tensors = dict(llama.state_dict())
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    parts = {"text_hidden_fcs.0": f_segmentation, sam_prefix: sam, "mm_projector": projector}
    for prefix, part in parts.items():
        tensors |= {f"model.{prefix}.{name}": tensor for name, tensor in part.state_dict().items()}
    if sam_prefix == "grounding_encoder":
        tensors["model.region_encoder.flatten_linear.weight"] = torch.ones(3)
    names = sorted(tensors)
    shards = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for file, chosen in shards.items():
        torch.save({name: tensors[name] for name in chosen}, folder / file)
    index = {"weight_map": {name: file for file, chosen in shards.items() for name in chosen}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return {"language_model": llama, "f_segmentation": f_segmentation, "mask_decoder": sam.mask_decoder}


def write_tokenizer(folder: Path, added: list[str]) -> int:
    """Write a SentencePiece model and added tokens; return the size of the vocabulary."""
    proto = import_protobuf().ModelProto()
    special, byte, normal = 3, 6, 1
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, special), ("</s>", 0.0, special)]
    pieces += [(f"<0x{value:02X}>", 0.0, byte) for value in range(256)]
    letters = sorted(set("".join(WORDS)) | {"▁"})
    learned = [f"▁{word}"[:length] for word in WORDS for length in range(2, len(word) + 2)]
    learned += [word[:length] for word in WORDS for length in range(2, len(word) + 1)]
    learned = [piece for piece in dict.fromkeys(learned) if piece not in letters]
    pieces += [(piece, -float(rank), normal) for rank, piece in enumerate([*learned, *letters])]
    for piece, score, kind in pieces:
        entry = proto.pieces.add()
        entry.piece, entry.score, entry.type = piece, score, kind
    (folder / "tokenizer.model").write_bytes(proto.SerializeToString())
    ids = {token: len(pieces) + number for number, token in enumerate(added)}
    (folder / "added_tokens.json").write_text(json.dumps(ids))
    return len(pieces) + len(added)
