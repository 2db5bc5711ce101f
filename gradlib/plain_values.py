"""Batches and states as plain values, which ``torch.load`` reads without any code.

Tensors, numbers, text, lists, tuples and dictionaries stay what they are. Arrays, named
tuples and objects become dictionaries that say what they were; an object comes back
with its attributes, and without its methods.
"""

import dataclasses
from collections import namedtuple
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

KIND = "__gradlib__"
DEEPEST = 8
PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)


def plain(value: Any, name: str = "batch", depth: int = DEEPEST) -> Any:
    """The value as plain ones; tensors and arrays are copied.

    Args:
        value: Tensors and arrays in containers, dataclasses and other objects.
        name: What it is called in a message.
        depth: How many levels it may have.

    Raises:
        TypeError: it holds something else, such as a function.

    Example:
        >>> stored = plain({"x": torch.ones(1), "n": np.arange(2)})
        >>> stored["n"]
        {'__gradlib__': 'array', 'value': tensor([0, 1])}
        >>> restored(stored)
        {'x': tensor([1.]), 'n': array([0, 1])}
    """
    if value is None or type(value) in PLAIN:
        return value
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        numbers = torch.from_numpy(np.ascontiguousarray(value).copy())
        return {KIND: "array", "value": numbers.reshape(value.shape)}
    if depth == 0 or callable(value) or isinstance(value, nn.Module):
        raise _strange(value, name)
    if isinstance(value, Mapping):
        if KIND in value:
            raise _strange(value, name)
        return _entries(value, name, depth)
    if isinstance(value, (list, tuple)):
        entries = [
            plain(entry, f"{name}[{place}]", depth - 1)
            for place, entry in enumerate(value)
        ]
        if hasattr(value, "_fields"):
            names = list(value._fields)
            return {KIND: "named tuple", "names": names, "values": entries}
        return entries if isinstance(value, list) else tuple(entries)
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value)]
        attributes = {field: getattr(value, field) for field in fields}
    else:
        attributes = getattr(value, "__dict__", None) or {}
    if not attributes:
        raise _strange(value, name)
    return {
        KIND: "object",
        "class": type(value).__qualname__,
        "attributes": _entries(attributes, name, depth),
    }


def restored(value: Any) -> Any:
    """What `plain` was given; objects come back as plain ones with these attributes."""
    if isinstance(value, dict):
        kind = value.get(KIND)
        if kind is None:
            return {key: restored(entry) for key, entry in value.items()}
        if kind == "array":
            return value["value"].numpy().copy()
        if kind == "named tuple":
            make: Callable[..., Any] = namedtuple("Batch", value["names"])  # type: ignore[misc]
            return make(*map(restored, value["values"]))
        return SimpleNamespace(**restored(value["attributes"]))
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return type(value)(map(restored, value))
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    return value


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors of plain values."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return tensors_in(list(value.values()))
    if isinstance(value, (list, tuple)):
        return [tensor for entry in value for tensor in tensors_in(entry)]
    return []


def _entries(value: Mapping[Any, Any], name: str, depth: int) -> dict[Any, Any]:
    return {
        plain(key, f"a key of {name}", 0): plain(entry, f"{name}.{key}", depth - 1)
        for key, entry in value.items()
    }


def _strange(value: Any, name: str) -> TypeError:
    return TypeError(
        f"{name}: expected tensors, arrays, numbers and text in lists, tuples, "
        f"dictionaries or dataclasses, got {type(value).__name__}. Leave it out of "
        "what is recorded."
    )
