"""Samples back as the arrays that they are written from, so that tests can count samples made by hand."""

from collections.abc import Iterator, Sequence

import numpy as np

from calico.core.records import PairSample
from calico.data.pairs.annotation_arrays import AnnotationArrays
from calico.data.pairs.array_targets import TargetArrays
from calico.data.pairs.pair_files import PairBlock


def to_blocks(samples: Sequence[PairSample], annotations: AnnotationArrays) -> Iterator[PairBlock]:
    """Yield each sample as a block of its own."""
    image_row, object_row, part_row = (
        {name: row for row, name in enumerate(ids.to_pylist())}
        for ids in (annotations.image_ids, annotations.object_ids, annotations.part_ids)
    )
    for sample in samples:
        targets = TargetArrays(
            first=np.array([0, len(sample.targets)]),
            image_index=np.array([target.image_index for target in sample.targets]),
            objects=np.array([object_row[target.object_id] for target in sample.targets]),
            parts=np.array([part_row[target.part_id] if target.part_id else -1 for target in sample.targets]),
        )
        images = np.array([[image_row[image_id] for image_id in sample.image_ids]])
        yield PairBlock(sample.source, sample.task, images, targets)
