"""How much memory a training step needs, found by running it on the meta device, which has none.

Every operation tells which storages it makes; autograd and Python let go of them as on a real device.
"""

import contextlib
import gc
import math
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class MemoryTrace:
    """While entered, counts the bytes that operations on meta tensors allocate; what was there before is not.

    Attributes:
        live_bytes: of all storages that exist now.
        peak_bytes: the most that existed at once.
    """

    def __init__(self) -> None:
        self.live_bytes = 0
        self.peak_bytes = 0
        self._known: dict[int, Any] = {}
        self._modes = contextlib.ExitStack()

    def __enter__(self) -> "MemoryTrace":
        # What lies in cycles counts until the end: when Python collects it is chance, here as in training.
        gc.collect()
        gc.disable()
        self._modes.callback(gc.enable)
        self._modes.enter_context(_fused_attention())
        self._modes.enter_context(_Allocations(self))
        return self

    def __exit__(self, *exception: object) -> None:
        self._modes.close()

    def ignore(self, tensor: Tensor) -> None:
        """Leave out what an operation may return though it was there before, such as a parameter."""
        self._remember(tensor, 0)

    def add(self, tensor: Tensor) -> None:
        """Count the storage of a tensor, once, until it is let go."""
        if tensor.device.type == "meta" and id(tensor.untyped_storage()) not in self._known:
            size = tensor.untyped_storage().nbytes()
            self.live_bytes += size
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)
            self._remember(tensor, size)

    def _remember(self, tensor: Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)

        def forget(_: object) -> None:
            self.live_bytes -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, forget)


class _Allocations(TorchDispatchMode):
    def __init__(self, trace: MemoryTrace) -> None:
        super().__init__()
        self._trace = trace

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor):
                self._trace.add(value)
        return result


@contextlib.contextmanager
def _fused_attention() -> Iterator[None]:
    """Let attention keep what the fused kernels of a GPU keep; on the meta device it would keep all scores.

    A function mode would not reach what gradient checkpointing runs again.
    """
    stock = F.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object) -> Tensor:
        return _FusedAttention.apply(query, key, value)

    F.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        F.scaled_dot_product_attention = stock


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.empty_like(query)
        sums = torch.empty(query.shape[:-1], dtype=torch.float32, device=query.device)
        ctx.save_for_backward(query, key, value, output, sums)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


def tensor_bytes(tensors: Any) -> int:
    """Return the size of tensors, wherever they are."""
    return sum(math.prod(tensor.shape) * tensor.element_size() for tensor in tensors)
