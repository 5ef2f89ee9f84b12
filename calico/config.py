"""params.yaml, typed: one frozen, strict section per stage; every fault reported at once."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from calico.errors import ConfigError

# The names are here for those who import them beside the sections.
from calico.model_config import ModelName, ModelSection, VariantName, VariantSection  # noqa: F401
from calico.section import EachOnce, Fraction, NonNegative, Positive, PositiveFloat, Section

SourceName = Literal["partimagenet", "paco_lvis", "ade20k_part_234"]
InputName = Literal[SourceName, "mixed_parts"]  # mixed_parts: the published annotations of two sources
DownloadName = Literal["partimagenet", "partimagenet_ood", "paco_lvis", "ade20k_part_234", "grand", "sa_1b"]


class RuntimeSection(Section):
    """Where and how precisely to compute; never checked against the hardware here."""

    device: Literal["cpu", "cuda"]
    num_threads: Positive
    dtype: Literal["float32", "bfloat16"]


class SplitCounts(Section):
    """A count for each split."""

    train: NonNegative
    val: NonNegative
    test: NonNegative


class SynthesizeSection(Section):
    """The synthetic sources: scenes per source and split, drawn from `seed`."""

    seed: NonNegative
    difficulty: Fraction
    image_size_px: Annotated[int, Field(ge=64, le=1024)]
    num_workers: Positive
    num_images: dict[SourceName, SplitCounts]
    num_grand_images: NonNegative


class OwnSource(Section):
    """A person's own objects and parts in a COCO-style file (docs/own-data.md).

    Attributes:
        name: of the source in tables and reports.
        annotations, images: file and folder, relative to the folder that the pipeline runs in.
        split: of all images of the file; "by_image" puts about 80, 10 and 10 % into train, val and test.
        part_link: field of a part's annotation with its object's id; null: the object that it lies in.
    """

    kind: Literal["coco"]
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
    annotations: Annotated[str, Field(min_length=1)]
    images: Annotated[str, Field(min_length=1)]
    split: Literal["train", "val", "test", "by_image"]
    part_link: str | None

    @field_validator("name")
    @classmethod
    def _is_new(cls, name: str) -> str:
        if name in (*get_args(SourceName), "mixed_parts", "grand"):
            raise ValueError("this is the name of a published source; choose another one")
        return name


class DownloadSection(Section):
    """The published sources: which to get, and where their archives are kept.

    A source that has terms needs its name in `accepted_terms`: a person has read and accepted them. `folder`
    lies outside the stages' outputs, so that DVC never removes an archive.
    """

    sources: Annotated[list[DownloadName], Field(min_length=1), EachOnce]
    accepted_terms: list[DownloadName]
    folder: Annotated[str, Field(min_length=1)]
    num_workers: Annotated[int, Field(gt=0, le=16)]
    num_retries: NonNegative


class UnifySection(Section):
    """Which sources to read and which annotations are too small to keep."""

    sources: Annotated[list[InputName], EachOnce]
    own_sources: list[OwnSource] = Field(default_factory=list)
    min_object_area_px: Positive
    min_part_area_px: Positive

    @model_validator(mode="after")
    def _has_a_source(self) -> "UnifySection":
        if not self.sources and not self.own_sources:
            raise ValueError("sources and own_sources are both empty; name at least one source")
        return self


class CurateSection(Section):
    """Which category pairs are comparable: by a reviewed list (None: ours), else by the rule."""

    reviewed: str | None
    min_jaccard: Fraction


class PairCounts(Section):
    """Pairs of each split, all sources together; `val` and `test` are of each task."""

    train: dict[Literal["common_objects", "common_parts", "unique_parts"], NonNegative]
    val: NonNegative
    test: NonNegative

    def of(self, split: str, task: str) -> int:
        """Return how many pairs of a task a split should have."""
        return self.train.get(task, 0) if split == "train" else getattr(self, split)  # type: ignore[call-overload]


class PairSection(Section):
    """How many image pairs, and how many targets a pair may have."""

    seed: NonNegative
    num_pairs: PairCounts
    max_targets: Positive


class CheckpointsSection(Section):
    """Where the pretrained parts come from."""

    kind: Literal["standins", "published"]
    folder: str


class LossSection(Section):
    """Weights of section 3.5; `mask_kind` chooses eq. 11's focal loss or GLaMM's binary cross-entropy."""

    text: Annotated[float, Field(ge=0.0)]
    mask: Annotated[float, Field(ge=0.0)]
    dice: Annotated[float, Field(ge=0.0)]
    mask_kind: Literal["focal", "bce"]


class TrainSection(Section):
    """One training run; align and finetune share the form.

    `feature_cache` encodes every image once, before training; images beyond `feature_cache_gb` are encoded
    when they are drawn. `num_workers` 0 makes batches in the training process. What these mean:
    docs/training.md.
    """

    seed: NonNegative
    num_steps: Positive
    batch_size: Positive
    accumulation: Positive
    learning_rate: PositiveFloat
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)]
    weight_decay: Annotated[float, Field(ge=0.0)]
    warmup_steps: NonNegative
    max_grad_norm: PositiveFloat
    zero_stage: Literal[0, 1, 2]
    losses: LossSection
    mask_loss_px: Positive
    feature_cache: Literal["none", "memory", "disk"]
    feature_cache_gb: PositiveFloat
    num_workers: NonNegative
    gradient_checkpointing: bool
    log_every: Positive
    checkpoint_every: Positive
    keep_checkpoints: Positive


class FinetuneSection(TrainSection):
    """A training validated on a fixed part of the val pairs every `validate_every` steps; 0: never."""

    validate_every: NonNegative
    num_validation_pairs: Positive


class PredictSection(Section):
    """Generation: batches, shards and processes, answer length, the seed of the shuffled-images control."""

    batch_size: Positive
    shard_size: Positive
    num_processes: Positive
    max_new_tokens: Positive
    shuffle_seed: NonNegative


class EvaluateSection(Section):
    """Metrics of C.2; `glamm` adds what the released GLaMM evaluator would compute."""

    seed: NonNegative
    text_model: str
    text_threshold: Fraction
    iou_threshold: Fraction
    num_bootstrap: Positive
    glamm: bool


class ProfileSection(Section):
    """The canonical sample of the cost figures."""

    num_text_tokens: Positive
    num_seg_tokens: Positive
    num_repeats: Positive
    num_latency_pairs: Positive


class ReportSection(Section):
    """The gallery: pairs of each task chosen at random, and the best and as many worst ones."""

    num_gallery_pairs: Positive
    num_extreme_pairs: Positive
    seed: NonNegative


class Config(Section):
    """One profile of params.yaml."""

    runtime: RuntimeSection
    synthesize: SynthesizeSection
    download: DownloadSection
    unify: UnifySection
    curate: CurateSection
    pair: PairSection
    checkpoints: CheckpointsSection
    model: ModelSection
    align: TrainSection
    finetune: FinetuneSection
    predict: PredictSection
    evaluate: EvaluateSection
    profile: ProfileSection
    report: ReportSection
    ablations: dict[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")], VariantSection]

    @model_validator(mode="after")
    def _ablations_fit_the_model(self) -> "Config":
        for name, variant in self.ablations.items():
            self.model.check_layers(f"ablations.{name}", variant)
        return self


def load_config(profile: str, path: Path = Path("params.yaml")) -> Config:
    """Read one profile.

    Raises:
        ConfigError: the file or its top-level key `profile` is missing, or values are wrong; lists every
            fault with its dotted path and value.
    """
    try:
        profiles: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file. Run from the root of the repository.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(profiles, dict) or profile not in profiles:
        choices = sorted(map(str, profiles)) if isinstance(profiles, dict) else []
        raise ConfigError(f"{path}: no profile '{profile}'; choose one of {', '.join(choices) or 'none'}.")
    try:
        return Config.model_validate(profiles[profile])
    except ValidationError as error:
        faults = "; ".join(_describe(profile, fault) for fault in error.errors())
        raise ConfigError(f"{path}: {error.error_count()} wrong value(s): {faults}.") from error


def _describe(profile: str, fault: Any) -> str:
    dotted = ".".join([profile, *map(str, fault["loc"])])
    if fault["type"] == "missing":
        return f"{dotted} is missing"
    if fault["type"] == "extra_forbidden":
        return f"{dotted} is not a known name"
    if fault["type"] == "value_error":
        # A section's own rule; its input may be the whole section.
        return f"{dotted}: {fault['ctx']['error']}"
    return f"{dotted} = {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
