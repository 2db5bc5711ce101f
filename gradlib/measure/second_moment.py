"""How large a gradient is for what Adam expects: the update RMS."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import NAdam, Optimizer, RAdam
from torch.optim.adam import Adam
from torch.optim.adamw import AdamW

from gradlib.checks import check_model
from gradlib.measure.tensors import norms_of, numbers_of
from gradlib.state import bare_optimizer

ADAMS = (Adam, AdamW, NAdam, RAdam)
"""Those of torch, whose first step is known before they have a state."""


def update_rms(model: nn.Module, optimizer: Optimizer) -> dict[str, float]:
    """Root mean square of the gradient over its size in the past, for each parameter.

    sqrt(mean(g^2 / max(v, eps^2))) with Adam's second moment v = (beta2 v_old +
    (1 - beta2) g^2) / (1 - beta2^t) of the step t that comes, with its correction of
    the bias. Call it where the optimizer would step: gradients are unscaled and clipped
    then. It is 1 at the first step, near 1 where gradients are as large as they were,
    and far above 1 where v still remembers smaller ones: the step is then too large,
    whatever the norm of the gradient says. It is at most sqrt((1 - beta2^t) /
    (1 - beta2)).

    Args:
        model: Any module.
        optimizer: One that keeps ``exp_avg_sq`` for each parameter, such as Adam,
            AdamW, NAdam or RAdam. Where it adds weight decay to gradients, so does
            this.

    Returns:
        The value by name of the parameter. Those without a gradient, with a sparse or a
        complex one, or of another optimizer are left out.

    Raises:
        ValueError: the optimizer keeps no second moment, or no parameter has a
            gradient.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> optimizer = torch.optim.AdamW(layer.parameters(), betas=(0.9, 0.99))
        >>> for size in [1.0, 1.0, 30.0]:
        ...     layer.weight.grad = torch.tensor([[size]])
        ...     found = update_rms(layer, optimizer)
        ...     optimizer.step()
        >>> 1.70 < found["weight"] < 1.73  # at most sqrt(3) in the third step
        True

    References:
        Wortsman et al. 2023, https://arxiv.org/abs/2304.13013
    """
    check_model(model)
    optimizer = bare_optimizer(optimizer)
    check_second_moment(optimizer)
    names, norms, sizes = second_moment_norms(
        optimizer, {id(p): name for name, p in model.named_parameters()}
    )
    if not names:
        raise ValueError(
            "model: expected dense gradients of the parameters that the optimizer "
            f"holds, got none in {type(model).__name__}. Call this after backward() "
            "and before the gradients are set to None."
        )
    return dict(zip(names, rms_of(numbers_of(norms), sizes), strict=True))


def check_second_moment(optimizer: Optimizer) -> None:
    """Refuse an optimizer that keeps no second moment of each number.

    Raises:
        ValueError: it keeps none.
    """
    states = [state for state in optimizer.state.values() if state]
    kept = any("exp_avg_sq" in state for state in states)
    if not kept and (states or not isinstance(optimizer, ADAMS)):
        raise ValueError(
            "optimizer: expected one that keeps exp_avg_sq, such as Adam or AdamW, got "
            f"{type(optimizer).__name__}. Without a second moment there is no update "
            "RMS."
        )


@torch.no_grad()
def second_moment_norms(
    optimizer: Optimizer, names: Mapping[int, str]
) -> tuple[list[str], list[Tensor], list[int]]:
    """Names of parameters, norms of g / sqrt(v), and how many numbers each has.

    Args:
        optimizer: One that `check_second_moment` takes.
        names: Names of parameters by their ``id``.
    """
    found: list[str] = []
    norms: list[Tensor] = []
    sizes: list[int] = []
    for group in optimizer.param_groups:
        for p in group["params"]:
            name = names.get(id(p))
            if name is None or p.grad is None or not p.numel():
                continue
            if p.grad.is_sparse or p.is_complex():
                continue
            relative = _relative(optimizer, group, p)
            if relative is not None:
                found.append(name)
                norms += norms_of([relative])
                sizes.append(p.numel())
    return found, norms, sizes


def rms_of(norms: list[float], sizes: list[int]) -> list[float]:
    """Root mean squares from norms and numbers of numbers.

    Example:
        >>> rms_of([6.0], [4])
        [3.0]
    """
    pairs = zip(norms, sizes, strict=True)
    return [norm / math.sqrt(size) for norm, size in pairs]


def _relative(optimizer: Optimizer, group: Mapping[str, Any], p: Any) -> Any:
    """g / sqrt(v) of a parameter; None where its state has no second moment."""
    state = optimizer.state.get(p) or {}
    if "exp_avg_sq" not in state and (state or not isinstance(optimizer, ADAMS)):
        return None
    beta, step = float(group["betas"][1]), float(state.get("step", 0)) + 1
    grad = p.grad
    grad = grad.to(torch.promote_types(grad.dtype, torch.float32))
    scale = getattr(optimizer, "grad_scale", None)  # of a fused one under a scaler
    if scale is not None:
        grad = grad / scale
    if group["weight_decay"] and _adds_decay(optimizer, group):
        grad = grad.add(p, alpha=group["weight_decay"])
    square = grad.square()
    second = (1 - beta) * square
    if state:
        second = second + beta * state["exp_avg_sq"]
    second = second / (1 - beta**step)
    least = max(float(group["eps"]) ** 2, torch.finfo(second.dtype).tiny)
    return (square / second.clamp(min=least)).sqrt()


def _adds_decay(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    """Whether weight decay goes into the gradient, as in Adam, not as in AdamW."""
    decoupled = group.get("decoupled_weight_decay", isinstance(optimizer, AdamW))
    return isinstance(optimizer, ADAMS) and not decoupled
