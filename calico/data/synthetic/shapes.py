"""The drawing function of every synthetic category."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from calico.data.synthetic.catalogue import ADE20K_PART_234, PACO_LVIS, PARTIMAGENET
from calico.data.synthetic.shapes_ade import ADE_SHAPES
from calico.data.synthetic.shapes_paco import PACO_SHAPES
from calico.data.synthetic.shapes_partimagenet import PARTIMAGENET_SHAPES
from calico.data.synthetic.sketch import Sketch

SHAPES: Mapping[str, Mapping[str, Callable[[Sketch], None]]] = MappingProxyType(
    {
        PARTIMAGENET: PARTIMAGENET_SHAPES,
        PACO_LVIS: PACO_SHAPES,
        ADE20K_PART_234: ADE_SHAPES,
    }
)
