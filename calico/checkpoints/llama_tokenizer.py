"""A published LLaMA tokenizer, `tokenizer.model` and `added_tokens.json`, as one tokenizer.json."""

from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import generate_merges, import_protobuf

from calico.core.files import read_json
from calico.core.tokens import IMAGE_END, IMAGE_START, SEG
from calico.errors import CheckpointError
from calico.language_models.tokenizer import BLANK_BEFORE, wrap

_MODEL_FILE, _ADDED_FILE = "tokenizer.model", "added_tokens.json"
_NEEDED = (SEG, IMAGE_START, IMAGE_END)


def read_llama_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Read a LLaMA tokenizer in the layout of LLaVA's family.

    Ids are those of the published files. A blank before "<p>", "</p>" and "[SEG]" belongs to the token, as
    everywhere in this project; a tokenizer without the first two (LISA's) spells them in pieces of text.

    Args:
        folder: holds tokenizer.model, a SentencePiece model of the kind BPE, and added_tokens.json.

    Raises:
        CheckpointError: a file is missing, damaged, or lacks the tokens that a segmenting model needs.

    Source: transformers' LlamaTokenizer.
    """
    pieces = _read_pieces(folder / _MODEL_FILE)
    added = _read_added(folder / _ADDED_FILE, first_id=len(pieces))
    vocabulary = {piece: index for index, (piece, _) in enumerate(pieces)}
    core = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=generate_merges(vocabulary, dict(pieces)),
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=False)
    core.decoder = decoders.Sequence(
        [
            *(decoders.Replace(token, " " + token) for token in BLANK_BEFORE if token in added),
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
        ]
    )
    core.add_special_tokens([AddedToken(token, normalized=False, special=True) for token, _ in pieces[:3]])
    core.add_special_tokens(
        [AddedToken(token, lstrip=token in BLANK_BEFORE, normalized=False, special=True) for token in added]
    )
    return wrap(core)


def _read_pieces(path: Path) -> list[tuple[str, float]]:
    """Return the pieces with their scores, in the order of their ids."""
    proto: Any = import_protobuf().ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file. It belongs to the checkpoint's repository.") from error
    except (DecodeError, OSError) as error:
        raise CheckpointError(f"{path}: not a SentencePiece model ({error}). Fetch it again.") from error
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    if [piece for piece, _ in pieces[:3]] != ["<unk>", "<s>", "</s>"]:
        raise CheckpointError(
            f"{path}: {len(pieces)} pieces that do not begin with <unk>, <s>, </s>. Use LLaMA's tokenizer."
        )
    return pieces


def _read_added(path: Path, *, first_id: int) -> list[str]:
    """Return the added tokens in the order of their ids, which must follow the model's."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file. It belongs to the checkpoint's repository.")
    ids = read_json(path)
    if not isinstance(ids, dict) or not all(isinstance(number, int) for number in ids.values()):
        raise CheckpointError(f"{path}: not a dictionary of tokens and ids.")
    added = [token for token, number in sorted(ids.items(), key=lambda entry: entry[1]) if number >= first_id]
    expected = list(range(first_id, first_id + len(added)))
    missing = [token for token in _NEEDED if token not in added]
    if missing or sorted(number for number in ids.values() if number >= first_id) != expected:
        raise CheckpointError(
            f"{path}: {len(added)} tokens ({', '.join(added[:8])}) that must have the ids from {first_id} on "
            f"without a gap, {', '.join(_NEEDED)} among them. It is the file of another model."
        )
    return added
