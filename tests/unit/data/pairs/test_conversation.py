"""calico.data.pairs.conversation: what is rendered is read back, and whatever a model writes is read."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.core.records import Phrase
from calico.core.tokens import SEG, SPECIAL_TOKENS, TASKS
from calico.data.pairs import conversation
from calico.errors import DataError

WORDS = st.text("abcdefghijklmnopqrstuvwxyzäé'(),.0123456789-", min_size=1, max_size=8)
LABELS = (
    st.lists(WORDS, min_size=1, max_size=4)
    .map(" ".join)
    .filter(lambda label: label.split()[0] not in {"a", "an", "the"})
)
PHRASES = st.lists(st.builds(Phrase, LABELS, st.integers(0, 8)), min_size=1, max_size=12)


def test_prompt_of_two_images_has_the_papers_form() -> None:
    assert conversation.render_prompt("common_objects", 2) == (
        "A chat between a curious human and an artificial intelligence assistant. USER: "
        "The <im_start><image><im_end> (IMAGE1) and <im_start><image><im_end> (IMAGE2) "
        "provide an overview of the pictures.\n"
        "Can you segment the common object in these images? ASSISTANT:"
    )


@pytest.mark.parametrize(
    ("num_images", "words"), [(1, "provides an overview of the picture."), (3, "(IMAGE2) and")]
)
def test_prompt_follows_the_number_of_images(num_images: int, words: str) -> None:
    prompt = conversation.render_prompt("common_parts", num_images)
    assert words in prompt
    assert prompt.count("<image>") == num_images


def test_answer_has_the_papers_form() -> None:
    phrases = [Phrase("seat cushion", 0), Phrase("leg", 0), Phrase("back pillow", 1)]
    assert conversation.render_answer("unique_parts", phrases, opener_index=1) == (
        "The unique parts of the objects are <p> the seat cushion </p> [SEG] (IMAGE1), "
        "<p> the leg </p> [SEG] (IMAGE1) and <p> the back pillow </p> [SEG] (IMAGE2)."
    )


@given(task=st.sampled_from(TASKS), phrases=PHRASES, opener=st.integers(0, 1))
def test_answers_round_trip(task: str, phrases: list[Phrase], opener: int) -> None:
    text = conversation.render_answer(task, phrases, opener_index=opener)
    parsed = conversation.parse_answer(text, 9)
    assert parsed.phrases == tuple((phrase, ordinal) for ordinal, phrase in enumerate(phrases))
    assert (parsed.num_seg, parsed.num_malformed) == (len(phrases), 0)


def test_caption_round_trips() -> None:
    text = conversation.render_caption("A dog and the red mug.", [(0, 5), (10, 21)])
    assert text == "<p> A dog </p> [SEG] (IMAGE1) and <p> the red mug </p> [SEG] (IMAGE1)."
    assert conversation.parse_answer(text, 1).phrases == ((Phrase("dog", 0), 0), (Phrase("red mug", 0), 1))


def test_openers_are_those_of_figure_6() -> None:
    assert {
        "The images show", "The images include", "The detected common parts are",
        "The unique parts present are",
    } <= {opener for group in conversation.OPENERS.values() for opener in group}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_paraphrases(task: str) -> None:
    for templates in (conversation.QUESTIONS[task], conversation.OPENERS[task]):
        assert len(set(templates)) == len(templates) >= 2


@given(words=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4), num_images=st.integers(1, 9))
def test_captions_round_trip(words: list[tuple[str, str]], num_images: int) -> None:
    """Every second word is grounded; the rest of the caption stays as it is."""
    text, spans = "", []
    for plain, phrase in words:
        text += f"{plain} "
        spans.append((len(text), len(text) + len(phrase)))
        text += f"{phrase} "
    rendered = conversation.render_caption(text, spans, image_index=num_images - 1)
    parsed = conversation.parse_answer(rendered, num_images)
    assert parsed.num_malformed == 0
    assert [(text[start:end], num_images - 1) for start, end in spans] == [
        (phrase.label, phrase.image_index) for phrase, _ in parsed.phrases
    ]
    assert [ordinal for _, ordinal in parsed.phrases] == list(range(len(spans)))


@pytest.mark.parametrize(
    ("piece", "num_used", "num_seg", "num_malformed"),
    [
        ("<p> the dog </p> [SEG] (IMAGE1) ", 4000, 4000, 0),
        ("<p> the dog ", 0, 0, 4000),
        ("<p> ", 0, 0, 4000),
        ("</p> ", 0, 0, 0),
        ("[SEG] ", 0, 4000, 4000),
        ("<p> the dog </p> [SEG] (IMAGE9) ", 0, 4000, 4000),
        ("the dog and ", 0, 0, 0),
        ("<p> dog </p> [SEG] " + " " * 20, 0, 4000, 4000),
    ],
)
def test_4000_repetitions_are_read_at_once(
    piece: str, num_used: int, num_seg: int, num_malformed: int
) -> None:
    """A model that has lost its way repeats itself until it is stopped."""
    start = time.perf_counter()
    parsed = conversation.parse_answer(piece * 4000, 2)
    # Measured: 0.2 s for the slowest; a search that went over the rest again and again would take minutes.
    assert time.perf_counter() - start < 10
    assert (len(parsed.phrases), parsed.num_seg, parsed.num_malformed) == (num_used, num_seg, num_malformed)


@pytest.mark.parametrize(
    ("text", "num_used", "num_seg", "num_malformed"),
    [
        ("", 0, 0, 0),
        ("   \n", 0, 0, 0),
        ("<p> the dog </p> [SEG] (IMAGE9)", 0, 1, 1),
        ("the dog </p> [SEG] (IMAGE1)", 0, 1, 1),
        ("<p> the dog [SEG] (IMAGE1)", 0, 1, 1),
        ("<p> the dog </p> </p> [SEG] (IMAGE1)", 0, 1, 1),
        ("The images show nothing.", 0, 0, 0),
        ("<p> the dog </p> [SEG] (IMAGE3)", 0, 1, 1),
        ("<p> the dog </p> [SEG] (IMAGE0)", 0, 1, 1),
        ("<p> the dog </p> [SEG]", 0, 1, 1),
        ("<p> the dog </p> (IMAGE1)", 0, 0, 1),
        ("<p> the </p> [SEG] (IMAGE1)", 1, 1, 0),
        ("<p> </p> [SEG] (IMAGE1)", 0, 1, 1),
        ("[SEG] (IMAGE1) <p>the dog</p>[SEG](IMAGE1)", 1, 2, 1),
        ("<p> the <p> the dog </p> [SEG] (IMAGE2)", 1, 1, 1),
        ("<p> the dog [SEG] </p> [SEG] (IMAGE1)", 0, 2, 2),
        ("<p> the dog </p> [SEG] (IMAGE1", 0, 1, 1),
        ("<p> dog </p> [SEG] (IMAGE1) <p> cat </p> [SEG] (IMAGE7), <p> cat </p> [SEG] (IMAGE2)", 2, 3, 1),
    ],
)
def test_bad_grammar_is_counted(text: str, num_used: int, num_seg: int, num_malformed: int) -> None:
    parsed = conversation.parse_answer(text, 2)
    assert (len(parsed.phrases), parsed.num_seg, parsed.num_malformed) == (num_used, num_seg, num_malformed)


def test_ordinal_counts_unusable_seg_too() -> None:
    parsed = conversation.parse_answer("[SEG] [SEG] <p> the dog </p> [SEG] (IMAGE2)", 2)
    assert parsed.phrases == ((Phrase("dog", 1), 2),)


@given(
    text=st.lists(st.sampled_from([*SPECIAL_TOKENS, "(IMAGE1)", "(IMAGE2)", "(IMAGE99)", " dog ", ","])).map(
        "".join
    )
)
def test_parser_never_fails_and_accounts_for_every_seg(text: str) -> None:
    parsed = conversation.parse_answer(text, 2)
    assert parsed.num_seg == text.count(SEG)
    assert 0 <= parsed.num_seg - len(parsed.phrases) <= parsed.num_malformed
    assert all(0 <= ordinal < parsed.num_seg for _, ordinal in parsed.phrases)


def test_wording_depends_on_seed_and_pair_only() -> None:
    drawn = [conversation.choose_wording("common_parts", f"pair/{index}", 3) for index in range(60)]
    assert drawn == [conversation.choose_wording("common_parts", f"pair/{index}", 3) for index in range(60)]
    assert {question for question, _ in drawn} == {0, 1, 2}
    assert {opener for _, opener in drawn} == {0, 1}
    assert drawn != [conversation.choose_wording("common_parts", f"pair/{index}", 4) for index in range(60)]


def test_corpus_covers_every_template_and_label() -> None:
    text = "\n".join(conversation.corpus(["dog", "dog's head"]))
    questions = [question for group in conversation.QUESTIONS.values() for question in group]
    openers = [opener for group in conversation.OPENERS.values() for opener in group]
    assert all(words in text for words in [*questions, *openers, "dog's head", "(IMAGE9)"])


@pytest.mark.parametrize("label", ["", " dog", "dog  head", "dog [SEG]", "a </p> b", "dog\nhead"])
def test_label_outside_the_grammar_is_refused(label: str) -> None:
    with pytest.raises(DataError, match=r"label|marker"):
        conversation.render_answer("common_objects", [Phrase(label, 0)])


def test_bad_requests_are_refused() -> None:
    with pytest.raises(DataError, match="no template for task 'colours'; choose one of common_objects"):
        conversation.render_prompt("colours", 2)
    with pytest.raises(DataError, match="1 to 9 images, not 0"):
        conversation.render_prompt("common_parts", 0)
    with pytest.raises(DataError, match="at least one phrase"):
        conversation.render_answer("common_parts", [])
    with pytest.raises(DataError, match=r"span \(3, 9\) does not follow position 0 of 5"):
        conversation.render_caption("A dog", [(3, 9)])


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("<p> the dog </p> [SEG] (IMAGE1)", {}),
        ("", {"empty_text": 1}),
        (" \n", {"empty_text": 1}),
        ("I see a dog.", {"no_seg": 1}),
        ("<p> the dog </p>", {"no_seg": 1}),
        ("<p> the dog </p> [SEG] and [SEG](IMAGE2)", {"seg_without_image": 1}),
        ("<p> the dog </p> [SEG] (IMAGE9)", {"unknown_image": 1}),
        ("<p> the dog </p> [SEG] (IMAGE0)", {"unknown_image": 1}),
        ("<p> the dog [SEG] (IMAGE1)", {"unbalanced_phrase": 1}),
        ("the dog </p> </p> [SEG] (IMAGE1)", {"unbalanced_phrase": 2}),
        ("<p> the </p> [SEG] (IMAGE1)", {}),
        ("<p> </p> [SEG] (IMAGE1)", {"empty_label": 1}),
        ("<p> dog </p> [SEG] " * 1000, {"seg_without_image": 1000}),
    ],
)
def test_what_is_wrong_is_counted_by_reason(text: str, faults: dict[str, int]) -> None:
    assert conversation.parse_answer(text, 2).faults == faults


@given(
    st.lists(st.sampled_from(["<p>", "</p>", "[SEG]", "(IMAGE1)", "(IMAGE9)", "the dog", " "]), max_size=30)
)
def test_reasons_are_known_and_positive(pieces: list[str]) -> None:
    faults = conversation.parse_answer("".join(pieces), 2).faults
    assert set(faults) <= set(conversation.FAULTS[:-1])
    assert all(count > 0 for count in faults.values())
