"""Treatments that call other functions in place of the owner's."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradlib.diagnosis.setup import Setup, mapped
from gradlib.diagnosis.treatments import Treatment


class Replaced(TorchFunctionMode):
    """Call other functions in place of some torch functions, found by name."""

    def __init__(
        self, other: dict[str, Callable[..., Any]], most: float = math.inf
    ) -> None:
        super().__init__()
        self.other = other
        self.left = most

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        other = self.other.get(getattr(func, "__name__", ""))
        if other is None or self.left < 1:
            return func(*args, **(kwargs or {}))
        self.left -= 1
        return other(*args, **(kwargs or {}))


def _leaky(x: Tensor, inplace: bool = False) -> Tensor:
    return F.leaky_relu(x, 0.1)


def _rectified(x: Tensor, **_: Any) -> Tensor:
    return torch.relu(x)


def using(**functions: Callable[..., Any]) -> Treatment:
    """Use other functions wherever the model or the loss calls the named ones."""
    return lambda setup: replace(
        setup, contexts=(*setup.contexts, lambda: Replaced(functions))
    )


leaky = using(relu=_leaky, relu_=_leaky)
bounded = using(relu=lambda x, **_: torch.tanh(x))


def rectified(most: int) -> Treatment:
    """Use ReLU for the first ``most`` calls of sigmoid and tanh in every update."""
    functions = {"sigmoid": _rectified, "tanh": _rectified}
    return lambda setup: replace(
        setup, contexts=(*setup.contexts, lambda: Replaced(functions, most))
    )


def single(setup: Setup) -> Setup:
    """Run everything in float32: no autocast, no half tensors."""
    for p in (*setup.model.parameters(), *setup.model.buffers()):
        if p.dtype == torch.float16:
            p.data = p.data.float()

    def widen(t: Tensor) -> Tensor:
        return t.float() if t.dtype == torch.float16 else t

    def to(x: Any, *args: Any, **kwargs: Any) -> Any:
        wide = [torch.float32 if a is torch.float16 else a for a in args]
        named = {
            k: torch.float32 if v is torch.float16 else v for k, v in kwargs.items()
        }
        return x.to(*wide, **named)

    modes = (lambda: Replaced({"half": lambda x: x.float(), "to": to}), _no_autocast)
    batches = [mapped(b, widen) for b in setup.batches]
    return replace(setup, batches=batches, contexts=(*setup.contexts, *modes))


@contextmanager
def _no_autocast() -> Iterator[None]:
    original = torch.autocast.__enter__

    def enter(self: Any) -> Any:
        self._enabled = self._enabled and self.fast_dtype != torch.float16
        return original(self)  # type: ignore[no-untyped-call]

    torch.autocast.__enter__ = enter  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.autocast.__enter__ = original  # type: ignore[method-assign]
