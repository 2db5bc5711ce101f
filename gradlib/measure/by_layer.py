"""Sizes and directions of gradients, parameters and updates, layer by layer.

Each function reads the device once, however many layers there are; a second time
where a norm does not fit float32 and is taken again in float64.
"""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from gradlib.checks import check_list, check_model, check_type
from gradlib.measure.sharded import whole_of
from gradlib.measure.tensors import (
    EXACT_IN_FLOAT32,
    norms_of,
    numbers_of,
    ratios_of,
    values_of,
)


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """L2 norm of the gradient of each parameter.

    Args:
        model: Any module; parameters whose ``grad`` is None are left out.

    Returns:
        Norm by name of the parameter, in the order of the model.

    Raises:
        ValueError: no parameter has a gradient.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> model(torch.tensor([[3.0, 4.0]])).sum().backward()
        >>> gradient_norms(model)
        {'weight': 5.0, 'bias': 1.0}
    """
    named = {n: p.grad for n, p in _named(model).items() if p.grad is not None}
    if not named:
        raise ValueError(
            f"model: expected gradients, got none in {type(model).__name__}. Call "
            "this after backward() and before the gradients are set to None."
        )
    return dict(zip(named, _sizes(named.values()), strict=True))


def parameter_norms(model: nn.Module) -> dict[str, float]:
    """L2 norm of each parameter, frozen ones included.

    Raises:
        ValueError: the model has no parameters.

    Example:
        >>> model = nn.Linear(4, 1, bias=False)
        >>> _ = nn.init.ones_(model.weight)
        >>> parameter_norms(model)
        {'weight': 2.0}
    """
    named = _named(model)
    return dict(zip(named, _sizes(named.values()), strict=True))


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters by name, to measure the next update against."""
    return {name: p.detach().clone() for name, p in _named(model).items()}


def update_norms(model: nn.Module, before: Mapping[str, Tensor]) -> dict[str, float]:
    """L2 norm of each parameter's change since a snapshot.

    Args:
        model: The model after the update.
        before: What `snapshot` gave before it.

    Raises:
        ValueError: the snapshot is that of another model.

    Example:
        >>> model = nn.Linear(4, 1, bias=False)
        >>> before = snapshot(model)
        >>> _ = nn.init.zeros_(model.weight)
        >>> update_norms(model, before) == parameter_norms(model)
        False
    """
    changes = _changes(model, before)
    return dict(zip(changes, _sizes(changes.values()), strict=True))


def update_ratios(model: nn.Module, before: Mapping[str, Tensor]) -> dict[str, float]:
    """Size of each update relative to its parameter: ||w - w_before|| / ||w_before||.

    Infinite for a parameter that was zero; 0 if it stayed so.

    Args:
        model: The model after the update.
        before: What `snapshot` gave before it.

    Raises:
        ValueError: the snapshot is that of another model.

    Example:
        >>> model = nn.Linear(4, 1, bias=False)
        >>> before = snapshot(model)
        >>> _ = nn.init.zeros_(model.weight)
        >>> update_ratios(model, before)
        {'weight': 1.0}
    """
    changes = _changes(model, before)
    sizes = _sizes([*changes.values(), *(before[name] for name in changes)])
    count = len(changes)
    ratios = ratios_of(sizes[:count], sizes[count:])
    return dict(zip(changes, ratios, strict=True))


def gradient_angle(a: Tensor | Iterable[Tensor], b: Tensor | Iterable[Tensor]) -> float:
    """Angle between two gradients in degrees, from 0 to 180.

    2 atan2(||u - v||, ||u + v||) with the unit vectors u and v, in float64: exact
    for small angles too, where the arc cosine is not.

    Args:
        a: A tensor, or several that are taken as one vector.
        b: As many numbers.

    Raises:
        ValueError: the sizes differ, or one of the two is zero or not finite.

    Example:
        >>> gradient_angle(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]))
        90.0
    """
    u, v = _direction(a, "a"), _direction(b, "b")
    if u.shape != v.shape:
        raise ValueError(
            f"a, b: expected as many numbers in both, got {u.numel()} and {v.numel()}"
        )
    return math.degrees(2 * torch.atan2((u - v).norm(), (u + v).norm()).item())


def _sizes(tensors: Iterable[Tensor]) -> list[float]:
    """L2 norm of each tensor, by one read; by two if float32 is too short for them."""
    values = [values_of(t) for t in tensors]
    sizes = numbers_of(norms_of(values))
    if all(EXACT_IN_FLOAT32 < size < math.inf for size in sizes):
        return sizes
    return numbers_of(norms_of(values, dtype=torch.float64))


def _changes(model: nn.Module, before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = _named(model)
    if not isinstance(before, Mapping):
        raise TypeError(
            f"before: expected the snapshot of a model, got {type(before).__name__}"
        )
    if named.keys() != before.keys():
        odd = sorted(named.keys() ^ before.keys())
        raise ValueError(
            f"before: expected a snapshot of this model, got one that differs in "
            f"{', '.join(odd[:5])}. Call snapshot(model) before the update."
        )
    check_type(Tensor, **{f"before[{name!r}]": value for name, value in before.items()})
    for name, p in named.items():
        if p.shape != before[name].shape:
            raise ValueError(
                f"before: expected shape {tuple(p.shape)} for {name}, got "
                f"{tuple(before[name].shape)}"
            )
    return {name: p.detach() - before[name] for name, p in named.items()}


def _direction(gradient: Tensor | Iterable[Tensor], name: str) -> Tensor:
    if isinstance(gradient, Tensor):
        gradient = [gradient]
    tensors: list[Tensor] = check_list(gradient, name)
    if not tensors or not all(isinstance(t, Tensor) for t in tensors):
        raise ValueError(f"{name}: expected one or more tensors, got {gradient!r:.80}")
    whole = [whole_of(t.detach()).to_dense() for t in tensors]
    vector = torch.cat([t.double().flatten() for t in whole])
    size = float(vector.norm())
    if not 0 < size < math.inf:
        raise ValueError(
            f"{name}: expected a direction, got a gradient of norm {size}. A zero or "
            "broken gradient has no angle: leave it out."
        )
    return vector / size


def _named(model: nn.Module) -> dict[str, Tensor]:
    check_model(model)
    named: dict[str, Tensor] = dict(model.named_parameters())
    if not named:
        raise ValueError(
            f"model: expected parameters, got {type(model).__name__} without any"
        )
    return named
