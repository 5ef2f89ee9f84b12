"""A published SentencePiece model with added tokens becomes this project's tokenizer, ids unchanged."""

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken
from transformers import LlamaTokenizer
from transformers.convert_slow_tokenizer import generate_merges, import_protobuf

from calico.checkpoints.llama_tokenizer import read_llama_tokenizer
from calico.core.tokens import IGNORE_LABEL_ID
from calico.data.pairs.conversation import parse_answer
from calico.errors import CheckpointError
from calico.language_models.tokenizer import decode_answer, encode_example, load_tokenizer, save_tokenizer
from tests.unit.checkpoints.published_files import ADDED, write_tokenizer

ANSWER = "the dog <p> the head of a dog </p> [SEG] (IMAGE1) <p> a cat </p> [SEG] (IMAGE2)"


@pytest.fixture(params=list(ADDED))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write_tokenizer(tmp_path, ADDED[request.param])
    return tmp_path


def stock(folder: Path) -> LlamaTokenizer:
    """Return transformers' own tokenizer of the same pieces; blanks are cut around added tokens."""
    proto = import_protobuf().ModelProto()
    proto.ParseFromString((folder / "tokenizer.model").read_bytes())
    vocabulary = {piece.piece: index for index, piece in enumerate(proto.pieces)}
    scores = {piece.piece: piece.score for piece in proto.pieces}
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=generate_merges(vocabulary, scores), legacy=True)
    added = json.loads((folder / "added_tokens.json").read_text())
    tokenizer.add_tokens(
        [
            AddedToken(token, lstrip=True, rstrip=False, normalized=False)
            for token in sorted(added, key=added.get)
        ]
    )
    return tokenizer


def test_ids_are_those_of_transformers_and_of_the_published_file(folder: Path) -> None:
    ours, theirs = read_llama_tokenizer(folder), stock(folder)
    assert len(ours) == len(theirs)
    for token, index in json.loads((folder / "added_tokens.json").read_text()).items():
        assert ours.convert_tokens_to_ids(token) == index
    for text in ("the dog", "USER: the cat", ANSWER, "é ü", "a  b", "[SEG]"):
        assert ours(text, add_special_tokens=False)["input_ids"] == theirs.encode(
            text, add_special_tokens=False
        )


def test_answers_survive_and_are_read_by_the_grammar(folder: Path, tmp_path: Path) -> None:
    save_tokenizer(read_llama_tokenizer(folder), tmp_path / "tokenizer.json")
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    ids, labels, last = encode_example(tokenizer, "USER: <image> a cat ASSISTANT:", ANSWER, 3)
    answer_ids = [label for label in labels if label != IGNORE_LABEL_ID][:-1]
    assert decode_answer(tokenizer, answer_ids) == ANSWER
    assert ids[last + 1 :] == [*answer_ids, tokenizer.eos_token_id]
    parsed = parse_answer(ANSWER, num_images=2)
    assert (parsed.num_seg, len(parsed.phrases), parsed.num_malformed) == (2, 2, 0)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.model", None, "tokenizer.model: no such file"),
        ("tokenizer.model", b"\xff\xff\xff", "not a SentencePiece model"),
        ("tokenizer.model", b"", "0 pieces that do not begin with <unk>"),
        ("added_tokens.json", None, "added_tokens.json: no such file"),
        ("added_tokens.json", b"[1]", "not a dictionary of tokens and ids"),
        ("added_tokens.json", b'{"[SEG]": 9000}', "that must have the ids from"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused(
    tmp_path: Path, file: str, content: bytes | None, message: str
) -> None:
    write_tokenizer(tmp_path, ADDED["LISA-7B-v1"])
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_llama_tokenizer(tmp_path)
