"""Tensors inside nested structures: batches and outputs of any form."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def mapped(structure: Any, change: Callable[[Tensor], Any]) -> Any:
    """Apply ``change`` to every tensor of a nested structure."""
    if isinstance(structure, Tensor):
        return change(structure)
    if isinstance(structure, Mapping):
        return {key: mapped(value, change) for key, value in structure.items()}
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(mapped(value, change) for value in structure))
    if isinstance(structure, (tuple, list)):
        return type(structure)(mapped(value, change) for value in structure)
    return structure


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


def samples(batch: Any) -> int:
    """Number of samples in a batch: the length of its first tensor."""
    first = next((t for t in tensors(batch) if t.ndim > 0), torch.zeros(1))
    return int(first.shape[0])
