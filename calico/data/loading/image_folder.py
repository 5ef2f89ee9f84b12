"""The images that samples name: their records, their files and their views."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from calico.core.image_rows import ImageTable
from calico.core.images import read_image
from calico.core.records import ImageRecord
from calico.data.loading.views import ViewSizes, make_views
from calico.errors import DataError


class ImageFolder:
    """The images that samples name, and the views of them."""

    def __init__(self, images: Mapping[str, ImageRecord], sources_path: Path, sizes: ViewSizes) -> None:
        self._images = images
        self._sources_path = Path(sources_path)
        self.sizes = sizes

    @property
    def grounding_px(self) -> int:
        """Side of the grounding view."""
        return self.sizes.grounding_px

    def record(self, image_id: str) -> ImageRecord:
        """Return an image's record.

        Raises:
            DataError: no such image.
        """
        try:
            return self._images[image_id]
        except KeyError as error:
            raise DataError(
                f"image '{image_id}' is in a sample but not in images.parquet. Run unify and pair again."
            ) from error

    def pixels(self, image_id: str) -> np.ndarray:
        """Decode an image to uint8 RGB of shape (height, width, 3).

        Raises:
            DataError: the file is damaged or has another size than when it was annotated.
        """
        record = self.record(image_id)
        image_HWC = read_image(self._sources_path / record.path)
        if image_HWC.shape[:2] != (record.height, record.width):
            raise DataError(
                f"{record.path}: the file has {image_HWC.shape[0]} x {image_HWC.shape[1]} pixels, its "
                f"annotation {record.height} x {record.width}. The image was changed; restore it."
            )
        return image_HWC

    def file_state(self, image_id: str) -> tuple[int, int]:
        """Return the size of an image file in bytes and the time of its last change in ns.

        Raises:
            DataError: there is no such file.
        """
        path = self._sources_path / self.record(image_id).path
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}). Run the stage acquire.") from error
        return status.st_size, status.st_mtime_ns

    def views(self, image_id: str) -> dict[str, Tensor]:
        """Return the views of an image, each of shape (3, side, side)."""
        return make_views(self.pixels(image_id), self.sizes)


def open_image_folder(unify_path: Path, sources_path: Path, sizes: ViewSizes) -> ImageFolder:
    """Open the unified images.

    Args:
        unify_path: folder of the unify stage.
        sources_path: folder that image paths are relative to.
        sizes: of the views.

    Raises:
        DataError: there are no unified images, or their rows are damaged.
    """
    return ImageFolder(ImageTable(unify_path / "rows" / "images"), sources_path, sizes)
