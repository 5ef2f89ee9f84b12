"""The canonical pair counted by DeepSpeed's profiler, the one that the paper names, to check `flops`.

Both count matrix products, convolutions and attention alike. DeepSpeed's profiler adds five operations for
each number of a layer norm, and one for each of an activation, of a convolution with a bias and of an
interpolated map; that is the whole gap (`python -m benchmarks.flop_counters` takes it apart). What a model
writes with operators or tensor methods, as LLaMA its norm and SAM its softmax, neither counts.
"""

import logging
import os

import torch

from calico.profiling.flops import CanonicalPair


def count_with_deepspeed(pair: CanonicalPair) -> int:
    """Count the operations of the pass that `count_flops` counts.

    Source: deepspeed 0.19.8 profiling/flops_profiler/profiler.py. While it counts, it replaces functions of
    torch. Two of them are put back: on the meta device torch itself calls `torch.mm` for a linear layer with
    bias, which would count twice, and `torch.add` for an interpolation. No model here calls them.
    """
    # Or the import looks for an accelerator; nothing is computed on one here.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from deepspeed.profiling.flops_profiler import FlopsProfiler

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    profiler, put_back = FlopsProfiler(pair), (torch.mm, torch.add)
    profiler.start_profile()
    try:
        torch.mm, torch.add = put_back
        pair()
        return int(profiler.get_total_flops())
    finally:
        profiler.end_profile()
