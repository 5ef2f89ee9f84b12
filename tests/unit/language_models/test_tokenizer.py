"""Words, special tokens, image places and labels; and text that a person typed."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from calico.config import load_config
from calico.core.tokens import IGNORE_LABEL_ID, IMAGE_TOKEN_ID, SPECIAL_TOKENS
from calico.errors import AlignmentError, CheckpointError
from calico.language_models.tokenizer import (
    build_tokenizer,
    decode_answer,
    encode_example,
    encode_prompt,
    load_tokenizer,
    save_tokenizer,
    tokens_per_image,
)

PROMPT = "USER: The <im_start><image><im_end> (IMAGE1) provides an overview.\nSegment the dog. ASSISTANT:"
ANSWER = "The parts are <p> the dog's head </p> [SEG] (IMAGE1), and <p> the cat's head </p> [SEG] (IMAGE2)."


@cache
def _tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer([PROMPT, ANSWER] * 20, vocabulary_size=400)


def test_words_tags_and_identifiers_are_single_tokens() -> None:
    tokenizer = _tokenizer()
    ids, _, last = encode_example(tokenizer, PROMPT, ANSWER, 2)
    tokens = [tokenizer.convert_ids_to_tokens(index).replace("Ġ", " ") for index in ids[last + 1 :]]
    assert tokens == [
        " The", " parts", " are", "<p>", " the", " dog", "'s", " head", "</p>", "[SEG]", " (IMAGE1)", ",",
        " and", "<p>", " the", " cat", "'s", " head", "</p>", "[SEG]", " (IMAGE2)", ".", "</s>",
    ]  # fmt: skip
    for number in range(1, 10):
        assert len(tokenizer(f" (IMAGE{number})", add_special_tokens=False)["input_ids"]) == 1


def test_ids_follow_llama_and_stay_below_the_bound() -> None:
    tokenizer = _tokenizer()
    assert (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.pad_token_id == 0
    assert len(tokenizer) <= 400
    assert len(set(tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)))) == len(SPECIAL_TOKENS)


def test_only_the_answer_and_the_end_are_supervised() -> None:
    tokenizer = _tokenizer()
    ids, labels, last = encode_example(tokenizer, PROMPT, ANSWER, 3)
    assert ids[: last + 1] == encode_prompt(tokenizer, PROMPT, 3)
    assert labels[: last + 1] == [IGNORE_LABEL_ID] * (last + 1)
    assert labels[last + 1 :] == ids[last + 1 :]
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.convert_ids_to_tokens(ids[last]) == ":"


@pytest.mark.parametrize("length", [1, 8, 36])
def test_an_image_takes_its_tokens_between_its_marks(length: int) -> None:
    tokenizer = _tokenizer()
    ids = encode_prompt(tokenizer, PROMPT, length)
    start, end = tokenizer.convert_tokens_to_ids(["<im_start>", "<im_end>"])
    first = ids.index(IMAGE_TOKEN_ID)
    assert ids[first - 1 : first + length + 1] == [start, *[IMAGE_TOKEN_ID] * length, end]
    assert ids.count(IMAGE_TOKEN_ID) == length


def test_answers_survive_encoding_and_decoding() -> None:
    tokenizer = _tokenizer()
    ids, _, last = encode_example(tokenizer, PROMPT, ANSWER, 2)
    assert decode_answer(tokenizer, ids[last + 1 : -1]) == ANSWER


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_typed_text_survives_and_holds_no_special_token(text: str) -> None:
    tokenizer = _tokenizer()
    typed = f"{text} [SEG] <p> <image> </s>"
    ids = encode_prompt(tokenizer, f"USER: {typed} ASSISTANT:", 4, untrusted=typed)
    special = {*tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)), tokenizer.eos_token_id, IMAGE_TOKEN_ID}
    assert not special & set(ids)
    assert tokenizer.decode(ids[1:]) == f"USER: {typed} ASSISTANT:"


def test_a_harmless_question_is_encoded_alike_trusted_or_not() -> None:
    tokenizer = _tokenizer()
    assert encode_prompt(tokenizer, PROMPT, 2, untrusted="Segment the dog.") == encode_prompt(
        tokenizer, PROMPT, 2
    )


def test_a_question_outside_the_prompt_is_refused() -> None:
    with pytest.raises(AlignmentError, match="does not stand in the prompt"):
        encode_prompt(_tokenizer(), PROMPT, 2, untrusted="Where is the cat?")


def test_training_a_tokenizer_is_repeatable() -> None:
    again = build_tokenizer([PROMPT, ANSWER] * 20, vocabulary_size=400)
    assert again.backend_tokenizer.to_str() == _tokenizer().backend_tokenizer.to_str()


def test_a_vocabulary_below_the_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="vocabulary_size 200 is below"):
        build_tokenizer([ANSWER], vocabulary_size=200)


def test_a_saved_tokenizer_is_the_same(tmp_path: Path) -> None:
    save_tokenizer(_tokenizer(), tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert encode_example(loaded, PROMPT, ANSWER, 2) == encode_example(_tokenizer(), PROMPT, ANSWER, 2)
    typed = "[SEG] <p>"
    assert encode_prompt(loaded, typed, 2, untrusted=typed) == encode_prompt(
        _tokenizer(), typed, 2, untrusted=typed
    )
    assert len(loaded) == len(_tokenizer())


def test_a_missing_tokenizer_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("content", ["", "{}", "\x00\xff not json"])
def test_a_damaged_tokenizer_is_reported(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match="not a tokenizer file"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_a_tokenizer_without_the_special_tokens_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(_tokenizer().backend_tokenizer.to_str().replace("[SEG]", "[MASK]"))
    with pytest.raises(CheckpointError, match=r"the vocabulary lacks \[SEG\]"):
        load_tokenizer(path)


@pytest.mark.parametrize(
    ("profile", "variant", "expected"),
    [("tiny", "calico", 8), ("tiny", "lisa", 36), ("tiny", "glamm", 64), ("paper", "calico", 32),
     ("paper", "lisa", 256), ("paper", "glamm", 576)],
)  # fmt: skip
def test_tokens_of_an_image(profile: str, variant: str, expected: int) -> None:
    assert tokens_per_image(load_config(profile).model, variant) == expected
