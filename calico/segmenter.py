"""Segment objects and parts in a person's own images with a finetuned model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from calico.assembly import Assembly, open_finetuned
from calico.config import Config, VariantName, load_config
from calico.core.tokens import TASKS
from calico.data.loading.feature_cache import FeatureCache
from calico.data.loading.views import make_views, read_image, view_sizes
from calico.data.pairs.conversation import prompt_frame, render_prompt
from calico.errors import DataError
from calico.predictors.lvlm import LvlmPredictor
from calico.predictors.protocol import Prediction, Question

ImageLike = Path | str | Image.Image | np.ndarray
FREE_QUESTION = "question"


class Segmenter:
    """A finetuned model, ready to be asked about images.

    Example:
        >>> segmenter = Segmenter.from_artifacts("tiny")
        >>> prediction = segmenter.segment(["dog.jpg", "cat.jpg"], task="common_parts")
        >>> prediction.answer.text, [mask.label for mask in prediction.masks]
    """

    def __init__(self, assembly: Assembly, config: Config, variant: VariantName) -> None:
        """Wrap a loaded model; see `from_artifacts`."""
        self._assembly = assembly
        self._config = config
        self._sizes = view_sizes(config.model, variant)

    @classmethod
    def from_artifacts(
        cls, profile: str, variant: VariantName = "calico", *, root: Path = Path(".")
    ) -> "Segmenter":
        """Open the model that the pipeline trained.

        Args:
            profile: "tiny" or "paper".
            variant: "calico", "lisa" or "glamm".
            root: the folder that holds params.yaml and artifacts/.

        Raises:
            ConfigError: no such profile.
            CheckpointError: the model is not trained yet, or its files are damaged.
        """
        config = load_config(profile, root / "params.yaml")
        assembly = open_finetuned(config.model, variant, root / "artifacts" / profile, runtime=config.runtime)
        return cls(assembly, config, variant)

    def segment(
        self, images: Sequence[ImageLike], *, task: str | None = None, question: str | None = None
    ) -> Prediction:
        """Ask about some images.

        Args:
            images: files, PIL images or uint8 RGB arrays of shape (height, width, 3); the same one twice is
                fine.
            task: one of `calico.core.tokens.TASKS`; asks its standard question about two or more images.
            question: asked instead of a task's question, about one or more images.

        Returns:
            The text and the masks, at the size of each image.

        Raises:
            DataError: an image cannot be read, too few or too many images, an unknown task, or no question.
        """
        prompt, untrusted = _prompt(len(images), task, question)
        pixels = [_pixels(image) for image in images]
        ids = tuple(f"image {index + 1}" for index in range(len(pixels)))
        sizes = tuple((image_HWC.shape[0], image_HWC.shape[1]) for image_HWC in pixels)
        views = [make_views(image_HWC, self._sizes) for image_HWC in pixels]
        predictor = LvlmPredictor(
            self._assembly.model,
            self._assembly.tokenizer,
            self._config.predict,
            features=FeatureCache(
                zip(ids, views, strict=True), self._assembly.model.encode_images, batch_size=len(ids)
            ),
            grounding_px=self._sizes.grounding_px,
            max_length=self._config.model.language_model.max_length,
        )
        asked = Question("", task or FREE_QUESTION, prompt, ids, sizes, sizes, untrusted=untrusted)
        (prediction,) = predictor.predict([asked])
        return prediction


def _prompt(num_images: int, task: str | None, question: str | None) -> tuple[str, str]:
    """Return the prompt and the part of it that a person typed."""
    if task is not None and task not in TASKS:
        raise DataError(f"no task '{task}'; choose one of {', '.join(TASKS)}.")
    if question is not None:
        if not question.strip():
            raise DataError("the question is empty; ask something, or name a task.")
        head, tail = prompt_frame(num_images)
        return f"{head}{question}{tail}", question
    if task is None:
        raise DataError(f"nothing is asked; name a task ({', '.join(TASKS)}) or ask a question.")
    if num_images < 2:
        raise DataError(
            f"task '{task}' compares images: give two or more instead of {num_images}, or ask a question of "
            "your own."
        )
    return render_prompt(task, num_images), ""


def _pixels(image: ImageLike) -> np.ndarray:
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, Image.Image):
        return np.array(image.convert("RGB"))
    return read_image(Path(image))
