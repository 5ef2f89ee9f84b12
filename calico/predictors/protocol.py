"""What a predictor is asked and what it answers; any baseline of the house implements `Predictor`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from calico.core.records import Answer, PredictedMask

Size = tuple[int, int]


@dataclass(frozen=True)
class Question:
    """One question about some images.

    Attributes:
        pair_id, task: go into the answer as they are.
        prompt: rendered conversation up to "ASSISTANT:".
        untrusted: the part of `prompt` that a person typed; "" if none.
        image_ids: the images shown, in order.
        image_sizes: (height, width) of each image shown.
        mask_sizes: (height, width) of the masks wanted for each image; another size than the image's only
            where images were exchanged to see what a model answers without looking.
    """

    pair_id: str
    task: str
    prompt: str
    image_ids: tuple[str, ...]
    image_sizes: tuple[Size, ...]
    mask_sizes: tuple[Size, ...]
    untrusted: str = ""


@dataclass(frozen=True)
class Prediction:
    """The answer to one question: its text, and its masks in the order of the text."""

    answer: Answer
    masks: tuple[PredictedMask, ...]


class Predictor(Protocol):
    """Answers questions; the same answer whatever other questions stand beside it."""

    def predict(self, questions: Sequence[Question]) -> list[Prediction]:
        """Answer the questions, in order."""
        ...
