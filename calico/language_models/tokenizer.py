"""Text to token ids: a small byte-level BPE with the project's special tokens, and prompts with image places.

Special tokens swallow the blank to their left, as GLaMM's tokenizer does, and decoding gives it back: so
"</p> [SEG]" is two tokens and the state that predicts [SEG] is the one at "</p>".
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from calico.config import ModelSection
from calico.core.files import write_text
from calico.core.tokens import (
    IGNORE_LABEL_ID,
    IMAGE_END,
    IMAGE_START,
    IMAGE_TOKEN_ID,
    PHRASE_END,
    PHRASE_START,
    SEG,
    SPECIAL_TOKENS,
    image_identifier,
)
from calico.errors import AlignmentError, CheckpointError

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
_IMAGE_PLACE = "<image>"
BLANK_BEFORE = (PHRASE_START, PHRASE_END, SEG)
# LISA's published vocabulary has no "<p>" and "</p>": they are spelt there.
_REQUIRED = (UNKNOWN, BEGIN, END, IMAGE_START, IMAGE_END, SEG)
_MAX_IDENTIFIERS = 9
# One word with the blank before it, "'s", a digit, a run of signs or of blanks.
_WORDS = Regex(r"'s|'t| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}']+|'|\s+")


def build_tokenizer(corpus: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on `corpus`; any text survives encoding and decoding.

    Args:
        corpus: lines of plain text; special tokens in them are ignored.
        vocabulary_size: upper bound of `len(tokenizer)`, special tokens and "(IMAGE1)" to "(IMAGE9)" too.

    Raises:
        ValueError: `vocabulary_size` does not hold the 256 bytes and the special tokens.
    """
    identifiers = [" " + image_identifier(index) for index in range(_MAX_IDENTIFIERS)]
    num_learned = vocabulary_size - len(SPECIAL_TOKENS) - len(identifiers)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if num_learned < len(alphabet) + 3:
        raise ValueError(f"vocabulary_size {vocabulary_size} is below {vocabulary_size - num_learned + 259}.")
    core = Tokenizer(models.BPE(unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_WORDS, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.Sequence(
        [*(decoders.Replace(token, " " + token) for token in BLANK_BEFORE), decoders.ByteLevel()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=num_learned,
        special_tokens=[UNKNOWN, BEGIN, END],
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    core.train_from_iterator((_plain(text, identifiers) for text in corpus), trainer)
    core.add_special_tokens(
        [
            AddedToken(token, lstrip=token in BLANK_BEFORE, normalized=False, special=True)
            for token in SPECIAL_TOKENS
        ]
    )
    core.add_tokens([AddedToken(identifier, normalized=False) for identifier in identifiers])
    return wrap(core)


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Read a `tokenizer.json`.

    Raises:
        CheckpointError: no such file, not a tokenizer, or a special token is missing from it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file. Run the stage 'checkpoints'.")
    try:
        core = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception for every fault
        raise CheckpointError(
            f"{path}: not a tokenizer file ({error}). Run the stage 'checkpoints' again."
        ) from error
    missing = [token for token in _REQUIRED if core.token_to_id(token) is None]
    if missing:
        raise CheckpointError(
            f"{path}: the vocabulary lacks {', '.join(missing)}. Use the model's own tokenizer."
        )
    return wrap(core)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """Write `tokenizer` as one `tokenizer.json`, atomically."""
    write_text(path, tokenizer.backend_tokenizer.to_str(pretty=True) + "\n")


def wrap(core: Tokenizer) -> PreTrainedTokenizerFast:
    """Return a tokenizer of `core` with this project's special tokens: padding is "<unk>"."""
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token=UNKNOWN,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )


def tokens_per_image(section: ModelSection, variant: str) -> int:
    """Return how many tokens one image takes in a prompt: Q-Former queries, or patches."""
    chosen = section.variants[variant]
    if chosen.visual == "qformer":
        return section.qformer.num_queries
    if chosen.visual == "patches":
        return (section.vision_encoder.image_size_px // section.vision_encoder.patch_size_px) ** 2
    side = (chosen.clip_image_size_px or section.clip.trained_image_size_px) // section.clip.patch_size_px
    return side * side


def encode_prompt(
    tokenizer: PreTrainedTokenizerFast, text: str, tokens_per_image: int, *, untrusted: str = ""
) -> list[int]:
    """Encode a prompt: "<s>", then the text, each "<image>" as `tokens_per_image` times `IMAGE_TOKEN_ID`.

    Args:
        tokenizer: from `build_tokenizer` or `load_tokenizer`.
        text: rendered prompt that ends in "ASSISTANT:".
        tokens_per_image: length of an image in this model.
        untrusted: the part of `text` that a person typed; special tokens in it are read as plain text.

    Raises:
        AlignmentError: `untrusted` is not a part of `text`.
    """
    if untrusted not in text:
        raise AlignmentError(f"the question {untrusted!r} does not stand in the prompt {text!r}.")
    before, question, after = text.rpartition(untrusted) if untrusted else (text, "", "")
    return [
        tokenizer.bos_token_id,
        *_encode_with_images(tokenizer, before, tokens_per_image),
        *_encode(tokenizer, question, split_special_tokens=True),
        *_encode_with_images(tokenizer, after, tokens_per_image),
    ]


def encode_example(
    tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str, tokens_per_image: int
) -> tuple[list[int], list[int], int]:
    """Encode one training example in one pass.

    Returns:
        ids; labels, equal to ids on the answer and "</s>" and `IGNORE_LABEL_ID` on the prompt (the model
        shifts by one); position of the last prompt token.
    """
    prompt_ids = encode_prompt(tokenizer, prompt, tokens_per_image)
    answer_ids = [*_encode(tokenizer, " " + answer), tokenizer.eos_token_id]
    labels = [IGNORE_LABEL_ID] * len(prompt_ids) + answer_ids
    return prompt_ids + answer_ids, labels, len(prompt_ids) - 1


def decode_answer(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    """Return the text of generated ids, grounding tags kept, without blanks around it."""
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)).strip()


def _plain(text: str, identifiers: Sequence[str]) -> str:
    """Remove what is a token already; the blank in front is the one that answers are encoded with."""
    for token in (*SPECIAL_TOKENS, _IMAGE_PLACE, *identifiers):
        text = text.replace(token, "")
    return " " + text


def _encode(
    tokenizer: PreTrainedTokenizerFast, text: str, *, split_special_tokens: bool = False
) -> list[int]:
    encoding = tokenizer(text, add_special_tokens=False, split_special_tokens=split_special_tokens)
    return list(encoding["input_ids"])


def _encode_with_images(tokenizer: PreTrainedTokenizerFast, text: str, tokens_per_image: int) -> list[int]:
    first, *rest = text.split(_IMAGE_PLACE)
    ids = _encode(tokenizer, first)
    for piece in rest:
        ids += [IMAGE_TOKEN_ID] * tokens_per_image + _encode(tokenizer, piece)
    return ids
