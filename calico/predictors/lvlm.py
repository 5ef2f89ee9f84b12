"""CALICO, LISA and GLaMM as predictors: one code, three variants of the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from calico.config import PredictSection
from calico.core.masks import encode
from calico.core.records import Answer, Batch, ImageFeatures, Phrase, PredictedMask
from calico.core.tokens import IGNORE_LABEL_ID
from calico.data.loading.collate import collate
from calico.data.loading.dataset import Example
from calico.data.loading.views import resized_size
from calico.data.pairs.conversation import parse_answer
from calico.errors import DataError
from calico.language_models.tokenizer import decode_answer, encode_prompt
from calico.models.generation import Generated
from calico.models.mask_decoder import upsample_masks
from calico.models.model import SegmentingModel
from calico.predictors.protocol import Prediction, Question


@dataclass(frozen=True)
class _Draft:
    """A generated answer, read but without masks yet.

    Attributes:
        faults: what is wrong with the text, by reason.
        phrases: the usable phrases.
        states_MD, probability_M: of the [SEG] of each usable phrase.
    """

    text: str
    num_malformed: int
    faults: tuple[tuple[str, int], ...]
    phrases: tuple[Phrase, ...]
    states_MD: Tensor
    probability_M: Tensor


class LvlmPredictor:
    """Greedy generation in batches, masks from the [SEG] states, routed by the image identifiers."""

    def __init__(
        self,
        model: SegmentingModel,
        tokenizer: PreTrainedTokenizerFast,
        section: PredictSection,
        *,
        features: Callable[[Batch], ImageFeatures],
        grounding_px: int,
        max_length: int,
    ) -> None:
        """Put the model into evaluation mode.

        Args:
            model: with its trained weights.
            section: batch size and answer length.
            features: gives the features of a batch's images by their ids, e.g. a `FeatureCache`.
            grounding_px: side of the grounding view.
            max_length: tokens of prompt and answer together that the model takes.
        """
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._section = section
        self._features = features
        self._grounding_px = grounding_px
        self._max_length = max_length

    @torch.no_grad()
    def predict(self, questions: Sequence[Question]) -> list[Prediction]:
        """Answer the questions, in order.

        Raises:
            DataError: a prompt leaves no room for an answer.
        """
        size = self._section.batch_size
        batches = (questions[start : start + size] for start in range(0, len(questions), size))
        return [prediction for batch in batches for prediction in self._predict_batch(batch)]

    def _predict_batch(self, questions: Sequence[Question]) -> list[Prediction]:
        examples = [self._example(question) for question in questions]
        batch = collate(examples, pad_id=self._tokenizer.pad_token_id, seg_id=self._model.seg_id, left=True)
        room = self._max_length - batch.input_ids_BL.shape[1]
        if room <= 0:
            raise DataError(
                f"the prompt has {batch.input_ids_BL.shape[1]} tokens, the model takes {self._max_length} "
                "with the answer. Ask a shorter question or show fewer images."
            )
        features = self._features(batch)
        generated = self._model.generate(
            batch, features, max_new_tokens=min(room, self._section.max_new_tokens)
        )
        drafts = [
            self._read(answer, len(question.image_ids))
            for answer, question in zip(generated, questions, strict=True)
        ]
        return self._add_masks(questions, drafts, features)

    def _example(self, question: Question) -> Example:
        ids = encode_prompt(
            self._tokenizer, question.prompt, self._model.tokens_per_image, untrusted=question.untrusted
        )
        return Example(
            sample_id=question.pair_id,
            input_ids=ids,
            labels=[IGNORE_LABEL_ID] * len(ids),
            prompt_last=len(ids) - 1,
            image_ids=question.image_ids,
            original_sizes=question.image_sizes,
            resized_sizes=tuple(resized_size(*size, self._grounding_px) for size in question.image_sizes),
            views=(),
            target_masks_MSS=torch.zeros(0, 1, 1, dtype=torch.uint8),
            mask_image_index=(),
        )

    def _read(self, answer: Generated, num_images: int) -> _Draft:
        text = decode_answer(self._tokenizer, answer.ids)
        parsed = parse_answer(text, num_images)
        # "[SEG]" spelled in ordinary tokens has no state; then no ordinal of this text can be trusted.
        usable = parsed.phrases if parsed.num_seg == len(answer.seg_states_MD) else ()
        ordinals = [ordinal for _, ordinal in usable]
        faults = dict(parsed.faults) | ({} if answer.is_complete else {"unfinished": 1})
        return _Draft(
            text=text,
            num_malformed=parsed.num_malformed + len(parsed.phrases) - len(usable),
            faults=tuple(sorted(faults.items())),
            phrases=tuple(phrase for phrase, _ in usable),
            states_MD=answer.seg_states_MD[ordinals],
            probability_M=answer.seg_log_probabilities_M[ordinals].exp(),
        )

    def _add_masks(
        self, questions: Sequence[Question], drafts: Sequence[_Draft], features: ImageFeatures
    ) -> list[Prediction]:
        """Decode the masks of all drafts in one pass and deal them out."""
        image_index, first_image = [], 0
        for question, draft in zip(questions, drafts, strict=True):
            image_index += [first_image + phrase.image_index for phrase in draft.phrases]
            first_image += len(question.image_ids)
        mask_logits_MGG, iou_M = self._model.decode_masks(
            torch.cat([draft.states_MD for draft in drafts]),
            torch.tensor(image_index, dtype=torch.long),
            features,
        )
        probability_M = torch.cat([draft.probability_M for draft in drafts])
        # Both say how sure the model is: of the phrase having a mask, and of the mask's outline.
        score_M = (probability_M.float() + iou_M.float().clamp(0, 1)) / 2
        counts = [len(draft.phrases) for draft in drafts]
        return [
            self._finish(*row)
            for row in zip(
                questions, drafts, mask_logits_MGG.cpu().split(counts), score_M.split(counts), strict=True
            )
        ]

    def _finish(
        self, question: Question, draft: _Draft, mask_logits_MGG: Tensor, score_M: Tensor
    ) -> Prediction:
        masks = tuple(
            PredictedMask(
                pair_id=question.pair_id,
                task=question.task,
                image_index=phrase.image_index,
                label=phrase.label,
                rle=encode(self._pixels(question, phrase.image_index, logits_GG)),
                score=score,
            )
            for phrase, logits_GG, score in zip(draft.phrases, mask_logits_MGG, score_M.tolist(), strict=True)
        )
        answer = Answer(question.pair_id, question.task, draft.text, draft.num_malformed, draft.faults)
        return Prediction(answer, masks)

    def _pixels(self, question: Question, image_index: int, logits_GG: Tensor) -> np.ndarray:
        (mask_HW,) = upsample_masks(
            logits_GG[None],
            resized_size=resized_size(*question.image_sizes[image_index], self._grounding_px),
            original_size=question.mask_sizes[image_index],
            image_size_px=self._grounding_px,
        )
        return mask_HW.numpy()
