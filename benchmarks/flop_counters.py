"""Two counters of operations, side by side at the paper's size: `python -m benchmarks.flop_counters`.

Ours is torch's own (torch.utils.flop_counter); the peer is DeepSpeed's profiler, which the paper names for
its Table 4. Both see the same pass on the meta device. The gap is taken apart by teaching torch's counter,
operation by operation, what only the peer counts. The last line is one JSON object.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count
from transformers.activations import GELUActivation

from calico.config import Config, load_config
from calico.profiling.deepspeed_flops import count_with_deepspeed
from calico.profiling.flops import CanonicalPair

VOCABULARY_SIZE = 32007  # Vicuna's 32,000 and GLaMM's seven
_aten = torch.ops.aten


def main() -> None:
    """Count, print where the gap comes from, and last one line of JSON."""
    logging.getLogger("torch").setLevel(logging.ERROR)
    config = load_config("paper")
    models = {name: compare(config, name) for name in config.model.variants}
    for name, counts in models.items():
        parts = ", ".join(f"{kind} {flops / 1e9:.3f}" for kind, flops in counts["only_deepspeed"].items())
        print(
            f"{name:8} torch {counts['torch'] / 1e12:.3f} T, DeepSpeed {counts['deepspeed'] / 1e12:.3f} T "
            f"({counts['gap_share']:+.3%}); GFLOP that DeepSpeed alone counts: {parts}; "
            f"not explained {counts['unexplained'] / 1e9:.3f}"
        )
    print(
        json.dumps({"models": models, "versions": {name: version(name) for name in ("torch", "deepspeed")}})
    )


def compare(config: Config, name: str) -> dict[str, Any]:
    """Return the operations of one pair by both counters, and what their difference consists of."""
    pair = CanonicalPair(config.model, name, config.profile, vocabulary_size=VOCABULARY_SIZE)
    ours, peers, parts = sum(count(pair, {}).values()), count_with_deepspeed(pair), only_deepspeed(pair)
    return {
        "torch": ours,
        "deepspeed": peers,
        "gap_share": round((peers - ours) / ours, 6),
        "only_deepspeed": parts,
        "unexplained": peers - ours - sum(parts.values()),
    }


def only_deepspeed(pair: CanonicalPair) -> dict[str, int]:
    """Return by operator what DeepSpeed's profiler must count beyond torch's counter, found without it."""
    products, hidden = count(pair, {}), []
    # It replaces torch's functions; transformers' GELU keeps the one that it was built with.
    handles = [
        module.register_forward_hook(lambda module, inputs, output: hidden.append(output.numel()))
        for module in pair.modules()
        if isinstance(module, GELUActivation)
    ]
    taught = count(pair, ELEMENTWISE)
    for handle in handles:
        handle.remove()
    parts = {operator: flops - products.get(operator, 0) for operator, flops in taught.items()}
    parts["gelu"] = parts.get("gelu", 0) - sum(hidden)
    return {operator: flops for operator, flops in parts.items() if flops}


def count(pair: CanonicalPair, mapping: Mapping[Any, Callable[..., int]]) -> dict[str, int]:
    """Return the operations of a pair by operator; `mapping` stands beside the rules of torch's counter."""
    counter = FlopCounterMode(display=False, custom_mapping=dict(mapping))
    with counter:
        pair()
    return {
        str(operator).removeprefix("aten."): flops
        for operator, flops in counter.flop_counts["Global"].items()
    }


def _size(shape: Sequence[int]) -> int:
    return torch.Size(shape).numel()


def _one_each(shape: Sequence[int], *_: object, **__: object) -> int:
    return _size(shape)


def _layer_norm(shape: Sequence[int], *_: object, **__: object) -> int:
    return 5 * _size(shape)


def _interpolated(*_: object, out_shape: Sequence[int], **__: object) -> int:
    return _size(out_shape[-2:])


def _convolution(*shapes: Any, out_shape: Sequence[int], **_: object) -> int:
    (inputs, weights, bias), transposed = shapes[:3], shapes[6]
    products = conv_flop_count(list(inputs), list(weights), list(out_shape), transposed=transposed)
    return products + (_size(out_shape) if bias is not None else 0)


# What deepspeed 0.19.8 counts beyond products; its rules are in profiling/flops_profiler/profiler.py.
ELEMENTWISE: Mapping[Any, Callable[..., int]] = MappingProxyType(
    {
        _aten.native_layer_norm: _layer_norm,
        _aten.gelu: _one_each,
        _aten.silu: _one_each,
        _aten.relu: _one_each,
        _aten.upsample_bicubic2d: _interpolated,
        _aten.convolution: _convolution,
    }
)


if __name__ == "__main__":
    main()
