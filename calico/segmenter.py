"""Segment objects and parts in a person's own images with a finetuned model."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from calico.assembly import Assembly, open_finetuned
from calico.config import ModelSection, PredictSection, RuntimeSection, VariantName, load_config
from calico.core.images import read_photograph, rgb_pixels, upright
from calico.core.tokens import TASKS
from calico.data.loading.views import make_views, view_sizes
from calico.data.pairs.conversation import prompt_frame, render_prompt
from calico.errors import DataError
from calico.predictors.features import FeaturesOnDemand, Views
from calico.predictors.lvlm import LvlmPredictor
from calico.predictors.protocol import Prediction, Question
from calico.saving import open_saved, save_model

ImageLike = Path | str | Image.Image | np.ndarray
FREE_QUESTION = "question"
_MAX_IMAGES = 16  # whose features are kept between questions


class Segmenter:
    """A finetuned model, ready to be asked about images; the images asked about last are not encoded again.

    Example:
        >>> segmenter = Segmenter.from_artifacts("tiny")
        >>> prediction = segmenter.segment(["dog.jpg", "cat.jpg"], task="common_parts")
        >>> prediction.answer.text, [mask.label for mask in prediction.masks]
    """

    def __init__(
        self,
        assembly: Assembly,
        variant: VariantName,
        *,
        model: ModelSection,
        predict: PredictSection,
        runtime: RuntimeSection,
    ) -> None:
        """Wrap a loaded model; see `from_artifacts` and `from_pretrained`."""
        self._assembly = assembly
        self._variant = variant
        self._model, self._predict, self._runtime = model, predict, runtime
        self._sizes = view_sizes(model, variant)
        self._views: dict[str, Views] = {}
        self._features = FeaturesOnDemand(
            self._views.__getitem__, assembly.model.encode_images, max_images=_MAX_IMAGES
        )
        self._predictor = LvlmPredictor(
            assembly.model,
            assembly.tokenizer,
            predict,
            features=self._features,
            grounding_px=self._sizes.grounding_px,
            max_length=model.language_model.max_length,
        )

    @property
    def variant(self) -> VariantName:
        """Which model it is."""
        return self._variant

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
        return cls(assembly, variant, model=config.model, predict=config.predict, runtime=config.runtime)

    @classmethod
    def from_pretrained(
        cls,
        folder: Path | str,
        *,
        checkpoints: Path | str | None = None,
        runtime: RuntimeSection | None = None,
    ) -> "Segmenter":
        """Open what `save_pretrained` wrote.

        Args:
            folder: of the saved model.
            checkpoints: folder of the pretrained parts that it was trained on; a merged one needs none.
            runtime: device and precision; by default as it was saved.

        Raises:
            CheckpointError: not a saved model, or the pretrained parts are missing or others.
            DataError: a file differs from its manifest.
        """
        saved = open_saved(
            Path(folder), checkpoints_path=Path(checkpoints) if checkpoints else None, runtime=runtime
        )
        config = saved.config
        return cls(
            saved.assembly,
            config.variant,
            model=config.model,
            predict=config.predict,
            runtime=runtime or config.runtime,
        )

    def save_pretrained(self, folder: Path | str, *, merged: bool = False) -> None:
        """Write the model to a new folder: what was trained alone, or with `merged` all of its weights.

        Raises:
            CheckpointError: the folder is not empty.
            DataError: the disk is full or not writable.
        """
        save_model(
            self._assembly,
            self._variant,
            Path(folder),
            model=self._model,
            predict=self._predict,
            runtime=self._runtime,
            merged=merged,
        )

    def segment(
        self, images: Sequence[ImageLike], *, task: str | None = None, question: str | None = None
    ) -> Prediction:
        """Ask about some images.

        Args:
            images: files, PIL images or uint8 RGB arrays of shape (height, width, 3); the same one twice is
                fine. Files and PIL images are turned upright as their EXIF orientation says.
            task: one of `calico.core.tokens.TASKS`; asks its standard question about two or more images.
            question: asked instead of a task's question, about one or more images.

        Returns:
            The text and the masks, at the size of each image, upright.

        Raises:
            DataError: an image cannot be read, too few or too many images, an unknown task, or no question.
        """
        prompt, untrusted = _prompt(len(images), task, question)
        pixels = [_pixels(image) for image in images]
        ids = tuple(_content_id(image_HWC) for image_HWC in pixels)
        sizes = tuple((image_HWC.shape[0], image_HWC.shape[1]) for image_HWC in pixels)
        asked = Question("", task or FREE_QUESTION, prompt, ids, sizes, sizes, untrusted=untrusted)
        self._views.update({key: make_views(one, self._sizes) for key, one in zip(ids, pixels, strict=True)})
        try:
            (prediction,) = self._predictor.predict([asked])
        finally:
            self._views.clear()
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


def _content_id(image_HWC: np.ndarray) -> str:
    """Return the same text for the same pixels."""
    return hashlib.sha256(f"{image_HWC.shape}".encode() + image_HWC.tobytes()).hexdigest()


def _pixels(image: ImageLike) -> np.ndarray:
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, Image.Image):
        return rgb_pixels(upright(image))
    return read_photograph(Path(image))
