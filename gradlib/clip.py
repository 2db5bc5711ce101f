"""Clip gradients: by value, by norm, by parameter, by unit, or to a fixed norm.

A clipper takes parameters, changes their gradients in place, and returns the total
norm *before*. Parameters whose ``grad`` is None are skipped; if there are no
gradients at all, nothing happens and the norm is 0. Gradients that hold NaN or
infinity are refused: where they come from is worth an error, and clipping would
spread one NaN over all gradients, or turn the finite ones into zeros. The check
costs one read of the device.
"""

import torch
from torch import Tensor

from gradlib.adaptive_clip import AutoClip, ZClip, clip_adaptive_
from gradlib.errors import check_positive
from gradlib.gradients import (
    Parameters,
    gather,
    joint_norm,
    norms_of,
    on_one_device,
    scale_,
    scale_each_,
    shrink_,
)

__all__ = [
    "AutoClip",
    "ZClip",
    "clip_adaptive_",
    "clip_each_norm_",
    "clip_norm_",
    "clip_value_",
    "normalize_",
]


@torch.no_grad()
def clip_value_(
    parameters: Parameters, clip_value: float, *, error_if_nonfinite: bool = True
) -> Tensor:
    """Bound each number of the gradients. The direction changes.

    g_i <- min(max(g_i, -clip_value), clip_value), in place.

    Args:
        parameters: Parameters, or pairs (name, parameter).
        clip_value: Largest absolute value, in units of the gradient; > 0.
        error_if_nonfinite: Refuse NaN and infinity. If False, as in torch, infinity
            becomes ``clip_value`` and NaN stays.

    Returns:
        Scalar tensor: the L2 norm of all gradients before clipping.

    Raises:
        NonFiniteGradientError: a gradient holds NaN or infinity; names the parameter.
        ValueError: ``parameters`` is empty, or ``clip_value`` is not > 0.

    Example:
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> p.grad = torch.tensor([3.0, 4.0])
        >>> clip_value_([p], clip_value=3.5)
        tensor(5.)
        >>> p.grad
        tensor([3.0000, 3.5000])
    """
    clip_value = check_positive(clip_value, "clip_value")
    found = gather(parameters, error_if_nonfinite=error_if_nonfinite)
    if found.tensors:
        torch._foreach_clamp_min_(found.tensors, -clip_value)
        torch._foreach_clamp_max_(found.tensors, clip_value)
    return found.total


@torch.no_grad()
def clip_norm_(
    parameters: Parameters,
    max_norm: float,
    norm_type: float = 2.0,
    *,
    error_if_nonfinite: bool = True,
) -> Tensor:
    """Rescale gradients so that their joint norm is at most ``max_norm``.

    g <- g * min(1, max_norm / (||g|| + 1e-6)), in place, as
    ``torch.nn.utils.clip_grad_norm_``. The direction stays.

    Args:
        parameters: Parameters, or pairs (name, parameter).
        max_norm: Largest allowed norm, in units of the gradient; > 0.
        norm_type: Order of the norm, > 0; ``math.inf`` for the largest number.
        error_if_nonfinite: Refuse NaN and infinity. If False nothing is read from the
            device and, as in torch, NaN spreads and infinity leaves zeros.

    Returns:
        Scalar tensor: the norm before clipping.

    Raises:
        NonFiniteGradientError: a gradient holds NaN or infinity; names the parameter.
        ValueError: ``parameters`` is empty, or a number cannot be right.

    Example:
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> p.grad = torch.tensor([3.0, 4.0])
        >>> clip_norm_([p], max_norm=1.0)
        tensor(5.)
        >>> p.grad
        tensor([0.6000, 0.8000])

    References:
        Pascanu et al. 2013, https://arxiv.org/abs/1211.5063
    """
    max_norm = check_positive(max_norm, "max_norm")
    found = gather(parameters, norm_type, error_if_nonfinite=error_if_nonfinite)
    shrink_(found, max_norm)
    return found.total


@torch.no_grad()
def clip_each_norm_(
    parameters: Parameters, max_norm: float, *, error_if_nonfinite: bool = True
) -> Tensor:
    """Bound the norm of each parameter's gradient by itself.

    g_p <- g_p * min(1, max_norm / (||g_p|| + 1e-6)) for each parameter p, in place.
    The direction of the whole gradient changes, those of its parts stay.

    Args:
        parameters: Parameters, or pairs (name, parameter).
        max_norm: Largest norm of one gradient, in units of the gradient; > 0.
        error_if_nonfinite: Refuse NaN and infinity. If False nothing is read from the
            device, and a broken gradient stays broken or becomes zero by itself.

    Returns:
        Scalar tensor: the L2 norm of all gradients before clipping.

    Raises:
        NonFiniteGradientError: a gradient holds NaN or infinity; names the parameter.
        ValueError: ``parameters`` is empty, or ``max_norm`` is not > 0.

    Example:
        >>> layer = torch.nn.Linear(1, 1)
        >>> layer.weight.grad, layer.bias.grad = torch.full((1, 1), 3.0), torch.ones(1)
        >>> norm = clip_each_norm_(layer.parameters(), max_norm=2.0)
        >>> layer.weight.grad, layer.bias.grad
        (tensor([[2.0000]]), tensor([1.]))
    """
    max_norm = check_positive(max_norm, "max_norm")
    found = gather(parameters, error_if_nonfinite=error_if_nonfinite)
    if found.tensors:
        norms = torch.stack(on_one_device(found.norms))
        scales = torch.clamp(max_norm / (norms + 1e-6), max=1.0)
        scale_each_(found.tensors, list(scales))
    return found.total


@torch.no_grad()
def normalize_(
    parameters: Parameters, norm: float = 1.0, *, error_if_nonfinite: bool = True
) -> Tensor:
    """Rescale gradients to a joint norm, up or down, so that only direction counts.

    g <- g * norm / ||g||, in place. A gradient of zero has no direction and stays.

    Args:
        parameters: Parameters, or pairs (name, parameter).
        norm: The L2 norm to give to all gradients together; > 0.
        error_if_nonfinite: Refuse NaN and infinity. If False such
            gradients are left as they are.

    Returns:
        Scalar tensor: the L2 norm of all gradients before.

    Raises:
        NonFiniteGradientError: a gradient holds NaN or infinity; names the parameter.
        ValueError: ``parameters`` is empty, or ``norm`` is not > 0.

    Example:
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> p.grad = torch.tensor([0.0, 0.01])
        >>> before = normalize_([p])
        >>> p.grad
        tensor([0., 1.])

    References:
        Hazan et al. 2015, https://arxiv.org/abs/1507.02030
    """
    norm = check_positive(norm, "norm")
    found = gather(parameters, error_if_nonfinite=error_if_nonfinite)
    if found.tensors:
        fits = found.size is not None and 1e-16 < found.size < 1e38
        size = found.total if fits else _exact_norm(found.tensors)
        scale = torch.clamp(norm / size, max=1e38)
        has_direction = (size > 0) & size.isfinite()
        scale_(found.tensors, torch.where(has_direction, scale, 1.0))
    return found.total


def _exact_norm(tensors: list[Tensor]) -> Tensor:
    return joint_norm(norms_of(tensors, dtype=torch.float64))
