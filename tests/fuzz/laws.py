"""What a call must leave as it was, whether it returns or raises."""

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import Tensor, nn

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
)


def found(value: Any, depth: int = 6) -> Iterator[nn.Module | Tensor]:
    """All modules and tensors in an argument."""
    if isinstance(value, nn.Module):
        yield value
        yield from value.parameters()
        yield from value.buffers()
    elif isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, Mapping):
        yield from found(list(value.values()), depth - 1)
    elif depth and isinstance(value, list | tuple):
        for item in value:
            yield from found(item, depth - 1)


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Equal number for number, NaN included."""
    if a is None or b is None:
        return a is b
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(((a == b) | ((a != a) & (b != b))).all())


def copied(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()


def hooks_of(module: nn.Module) -> int:
    return sum(len(getattr(m, name)) for m in module.modules() for name in HOOKS)


def hooks_on(tensor: Tensor) -> int:
    after = getattr(tensor, "_post_accumulate_grad_hooks", None) or {}
    return len(tensor._backward_hooks or {}) + len(after)


def gradient(tensor: Tensor) -> Tensor | None:
    return tensor.grad if tensor.is_leaf else None


def other_random_states() -> tuple[object, ...]:
    _, keys, position, *_ = np.random.get_state()  # noqa: NPY002
    return random.getstate(), keys.tobytes(), position


def style_now() -> dict[str, Any]:
    return dict(dict.items(matplotlib.rcParams))


@contextmanager
def unchanged(arguments: Iterable[Any], allowed: frozenset[str]) -> Iterator[None]:
    """Fail if the body changes what it may not change."""
    items = list(found(list(arguments)))
    modules = [item for item in items if isinstance(item, nn.Module)]
    tensors = [item for item in items if isinstance(item, Tensor)]
    hooks = [hooks_of(m) for m in modules], [hooks_on(t) for t in tensors]
    modes = [[m.training for m in module.modules()] for module in modules]
    wanted = [t.requires_grad for t in tensors]
    values = [copied(t) for t in tensors]
    gradients = [(gradient(t), copied(gradient(t))) for t in tensors]
    state, style = torch.get_rng_state(), style_now()
    others = other_random_states()
    try:
        yield
    finally:
        assert hooks == (
            [hooks_of(m) for m in modules],
            [hooks_on(t) for t in tensors],
        ), "hooks are left"
        assert torch.is_grad_enabled(), "gradients are switched off"
        assert torch.get_default_dtype() == torch.float32
        now = [[m.training for m in module.modules()] for module in modules]
        assert modes == now, "modes changed"
        assert wanted == [t.requires_grad for t in tensors], "requires_grad changed"
        if "weights" not in allowed:
            kept = [same(a, b) for a, b in zip(values, tensors, strict=True)]
            assert all(kept), "a tensor changed"
        for tensor, (before, value) in zip(tensors, gradients, strict=True):
            if "gradients to None" not in allowed:
                assert gradient(tensor) is before, "a gradient is lost"
                if "gradients" not in allowed:
                    assert same(before, value), "a gradient changed"
        if "random state" not in allowed:
            assert torch.equal(state, torch.get_rng_state()), "random state changed"
            assert others == other_random_states(), "random state changed"
        if "style" not in allowed:
            assert style == style_now(), "matplotlib's style changed"
