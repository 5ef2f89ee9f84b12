"""Features of the frozen encoders on a disk: encoded once for all runs that have the same encoders.

    <folder>/<key>/00000000.safetensors    the features of the first `batch_size` images, and so on

A file tells which images it holds, as their files were then (size, time of the last change), and the checksum
of every row, which is compared whenever the row is read. A file that does not fit is encoded again.
"""

import hashlib
import json
import logging
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, uint8

from calico.core.files import atomic_path, free_bytes
from calico.core.records import ImageFeatures
from calico.data.loading.feature_cache import Encode, bytes_per_image, count_cached, stack_views
from calico.data.loading.image_folder import ImageFolder
from calico.errors import DataError

_LOGGER = logging.getLogger(__name__)
_NUM_OPEN_FILES = 64
_KEY_DIGITS = 16


def store_key(facts: Mapping[str, Any]) -> str:
    """Return the name of a store whose features follow from `facts`: weights, views, precision, batches."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:_KEY_DIGITS]


class FeatureStore:
    """The features of the first images, as many as the limit allows, read row by row."""

    def __init__(
        self, folder: Path, images: ImageFolder, image_ids: Sequence[str], *, batch_size: int
    ) -> None:
        """Name the files; nothing is read or encoded yet.

        Args:
            folder: of one key.
            images: where the images are.
            image_ids: of the images to hold, in order.
            batch_size: images encoded at once, and in a file.
        """
        self._folder = Path(folder)
        self._images = images
        self._chunks = [
            tuple(image_ids[start : start + batch_size]) for start in range(0, len(image_ids), batch_size)
        ]
        self._row_of = {image_id: row for row, image_id in enumerate(image_ids)}
        self._batch_size = batch_size
        self._open = lru_cache(_NUM_OPEN_FILES)(self._open_file)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._row_of

    def fill(self, encode_images: Encode, *, rank: int, world_size: int) -> int:
        """Encode what is not there yet, this process's share of it.

        Args:
            encode_images: a model's `encode_images`.

        Returns:
            How many images were encoded.

        Raises:
            DataError: the disk is full; what was encoded stays and counts the next time.
        """
        num_encoded = 0
        for number in range(rank, len(self._chunks), world_size):
            if not self._is_whole(number):
                chunk = self._chunks[number]
                features = encode_images(stack_views([self._images.views(one) for one in chunk])).to("cpu")
                self._write(number, features)
                num_encoded += len(chunk)
        return num_encoded

    def rows(self, image_ids: Sequence[str]) -> ImageFeatures:
        """Return the features of images, all of which are in here, in that order.

        Raises:
            DataError: a file is missing or was damaged since it was opened.
        """
        return ImageFeatures.join([self._row(self._row_of[image_id]) for image_id in image_ids])

    def _row(self, row: int) -> ImageFeatures:
        number, offset = divmod(row, self._batch_size)
        stream, checksums = self._open(number)
        try:
            tensors = {name: stream.get_slice(name)[offset : offset + 1] for name in checksums}
            for name, tensor in tensors.items():
                if _checksum(name, tensor[0]) != checksums[name][offset]:
                    raise self._damage(number, f"image '{self._chunks[number][offset]}', {name}")
            return ImageFeatures(tensors["global"], tensors["grounding"], tensors.get("semantic"))
        except (SafetensorError, LookupError, TypeError, ValueError) as error:
            raise self._damage(number, str(error)) from error

    def _damage(self, number: int, what: str) -> DataError:
        return DataError(
            f"{self._path(number)}: missing or damaged ({what}). Delete the file and start again; its images "
            "are encoded anew."
        )

    def _write(self, number: int, features: ImageFeatures) -> None:
        named = {
            "global": features.global_IPF,
            "grounding": features.grounding_ICGG,
            "semantic": features.semantic_IPF,
        }
        tensors = {name: tensor.contiguous() for name, tensor in named.items() if tensor is not None}
        checksums = {name: [_checksum(name, row) for row in tensor] for name, tensor in tensors.items()}
        metadata = {"images": self._signature(number), "checksums": json.dumps(checksums)}
        with atomic_path(self._path(number)) as temporary:
            save_file(tensors, temporary, metadata=metadata)

    def _is_whole(self, number: int) -> bool:
        """Tell whether the file is there and of these images; rows are checked when they are read."""
        path = self._path(number)
        if not path.is_file():
            return False
        try:
            with safe_open(path, framework="pt") as stream:
                return (stream.metadata() or {}).get("images") == self._signature(number)
        except SafetensorError as error:
            _LOGGER.warning("%s: damaged (%s); its images are encoded again.", path, error)
            return False

    def _open_file(self, number: int) -> tuple[Any, dict[str, list[int]]]:
        try:
            stream = safe_open(self._path(number), framework="pt")
            return stream, json.loads(stream.metadata()["checksums"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise self._damage(number, str(error)) from error

    def _signature(self, number: int) -> str:
        states = [self._images.file_state(image_id) for image_id in self._chunks[number]]
        return json.dumps([*zip(self._chunks[number], states, strict=True)])

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.safetensors"


def open_store(
    folder: Path,
    images: ImageFolder,
    image_ids: Sequence[str],
    encode_images: Encode,
    *,
    batch_size: int,
    max_bytes: int,
) -> FeatureStore:
    """Return the store of as many of the images as fit; `fill` it before use.

    Raises:
        DataError: the disk has less room than the missing features need.
    """
    size = bytes_per_image(images.views(image_ids[0]), encode_images)
    count = count_cached(len(image_ids), size, batch_size=batch_size, max_bytes=max_bytes)
    there = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    if (needed := count * size - there) > (free := free_bytes(Path(folder) / "new")):
        raise DataError(
            f"{folder}: the features of {count} images need {needed / 1e9:.1f} GB more, but {free / 1e9:.1f} "
            "GB are free. Free some space, or lower feature_cache_gb."
        )
    return FeatureStore(folder, images, image_ids[:count], batch_size=batch_size)


def _checksum(name: str, row: Tensor) -> int:
    start = zlib.crc32(f"{name} {row.dtype} {list(row.shape)}".encode())
    return zlib.crc32(row.contiguous().view(-1).view(uint8).numpy().data, start)
