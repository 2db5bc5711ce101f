"""Tensors inside nested structures: batches and outputs of any form."""

import copy
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

# Objects inside objects: a graph holds its storage, and that the tensors.
DEEPEST = 4
OPAQUE = (type, types.FunctionType, types.MethodType, types.ModuleType, nn.Module)


def mapped(structure: Any, change: Callable[[Tensor], Any], depth: int = 0) -> Any:
    """Apply ``change`` to every tensor of a nested structure.

    Structures are containers, and objects with tensors among their attributes, such as
    dataclasses, outputs of transformers or graphs; such an object is copied.

    Example:
        >>> from types import SimpleNamespace
        >>> batch = SimpleNamespace(x=torch.ones(2), name="a")
        >>> mapped(batch, lambda t: t + 1).x, batch.x
        (tensor([2., 2.]), tensor([1., 1.]))
    """
    if isinstance(structure, Tensor):
        return change(structure)
    if isinstance(structure, Mapping):
        changed = {k: mapped(v, change, depth) for k, v in structure.items()}
        return changed if type(structure) is dict else _like(structure, changed)
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(mapped(value, change, depth) for value in structure))
    if isinstance(structure, (tuple, list)):
        return type(structure)(mapped(value, change, depth) for value in structure)
    if depth < DEEPEST and _holds_tensors(structure, DEEPEST - depth):
        new = copy.copy(structure)
        for name, value in vars(structure).items():
            if _holds_tensors(value, DEEPEST - depth - 1):
                object.__setattr__(new, name, mapped(value, change, depth + 1))
        return new
    return structure


def _like(structure: Any, entries: dict[Any, Any]) -> Any:
    """A mapping of the same kind, such as the batches of a tokenizer."""
    try:
        new = copy.copy(structure)
        for key, value in entries.items():
            new[key] = value
    except Exception:
        return entries
    return new


def _holds_tensors(value: Any, depth: int) -> bool:
    """Whether a value is a tensor or leads to one."""
    if isinstance(value, Tensor):
        return True
    if depth <= 0 or isinstance(value, OPAQUE):
        return False
    if isinstance(value, Mapping):
        return any(_holds_tensors(v, depth - 1) for v in value.values())
    if isinstance(value, (tuple, list)):
        return any(_holds_tensors(v, depth - 1) for v in value)
    attributes = getattr(value, "__dict__", None)
    if not isinstance(attributes, dict):
        return False
    return any(_holds_tensors(v, depth - 1) for v in attributes.values())


def copied(structure: Any) -> Any:
    """The structure with every tensor cloned."""
    return mapped(
        structure, lambda t: t.detach().clone().requires_grad_(t.requires_grad)
    )


def tensors(structure: Any) -> list[Tensor]:
    """All tensors of a nested structure, in order."""
    found: list[Tensor] = []
    mapped(structure, found.append)
    return found


def rows_of(batch: Any, start: int, stop: int) -> Any:
    """A few samples of a batch: rows of all tensors that are as long as the first.

    Example:
        >>> rows_of((torch.arange(4), torch.tensor(5)), 1, 3)
        (tensor([1, 2]), tensor(5))
    """
    count = samples(batch)
    return mapped(batch, lambda t: t[start:stop] if t.ndim and len(t) == count else t)


def samples(batch: Any) -> int:
    """Number of samples in a batch: the length of its first tensor."""
    first = next((t for t in tensors(batch) if t.ndim > 0), torch.zeros(1))
    return int(first.shape[0])
