"""Activation functions by name, with the gain that each one needs.

Two numbers decide what an activation f does to a deep network: its second
moment E f(x)^2, which sets the size of the signal, and its slope second moment
E f'(x)^2, which sets the size of the gradient; x is Gaussian.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradlib.checks import check_positive
from gradlib.quadrature import gaussian_expectation

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Activation:
    """An activation function in its three forms.

    Args:
        name: What `as_activation` knows it by.
        module: Makes a fresh module; call it once for each layer.
        function: Acts on each element of a tensor.
        torch_gain: What ``torch.nn.init.calculate_gain`` recommends, or None.
    """

    name: str
    module: Callable[[], nn.Module]
    function: Function
    torch_gain: float | None = None


ActivationLike = str | Activation | nn.Module | Function

ACTIVATIONS: dict[str, Activation] = {
    a.name: a
    for a in (
        Activation("identity", nn.Identity, nn.Identity(), 1.0),
        Activation("relu", nn.ReLU, F.relu, math.sqrt(2.0)),
        Activation(
            "leaky_relu", nn.LeakyReLU, F.leaky_relu, math.sqrt(2.0 / (1 + 0.01**2))
        ),
        Activation("elu", nn.ELU, F.elu),
        Activation("selu", nn.SELU, F.selu, 0.75),
        Activation("gelu", nn.GELU, F.gelu),
        Activation("silu", nn.SiLU, F.silu),
        Activation("softplus", nn.Softplus, F.softplus),
        Activation("mish", nn.Mish, F.mish),
        Activation("tanh", nn.Tanh, torch.tanh, 5.0 / 3.0),
        Activation("sigmoid", nn.Sigmoid, torch.sigmoid, 1.0),
        Activation("hardtanh", nn.Hardtanh, F.hardtanh),
    )
}
"""Every activation that gradlib knows by name."""


class _Lambda(nn.Module):
    """A function as a module."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def as_activation(activation: ActivationLike) -> Activation:
    """The activation of that name, or one made from a function or a module.

    Args:
        activation: A key of `ACTIVATIONS`, an `Activation` (returned as it is), a
            function from tensor to tensor, or a module (copied for each layer).

    Returns:
        The activation. One that is not in the registry has no ``torch_gain``.

    Raises:
        ValueError: no activation has that name; the message lists the names.
        TypeError: it is no name, function or module.

    Example:
        >>> as_activation("relu").module()
        ReLU()
        >>> as_activation(torch.sin).name
        'sin'
    """
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, str):
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"activation: expected one of {', '.join(ACTIVATIONS)}; got "
                f"{activation!r}. Give a function or a module for any other."
            )
        return ACTIVATIONS[activation]
    if isinstance(activation, nn.Module):
        original = activation
        return Activation(
            name=type(original).__name__,
            module=lambda: copy.deepcopy(original),
            function=lambda x: copy.deepcopy(original).to(x.dtype)(x.clone()),
        )
    if isinstance(activation, type) or not callable(activation):
        raise TypeError(
            "activation: expected a name, a function of a tensor or a module, got "
            f"{activation!r}"
        )
    function = activation
    return Activation(
        name=getattr(function, "__name__", type(function).__name__),
        module=lambda: _Lambda(function),
        function=function,
    )


def slope(activation: ActivationLike, x: Tensor) -> Tensor:
    """Derivative f'(x) for each element, by autograd.

    At a kink torch decides: for ReLU the slope at 0 is 0.

    Args:
        activation: A name, function or module, as for `as_activation`.
        x: Floating point tensor of any shape.

    Returns:
        Tensor of the same shape.

    Raises:
        TypeError: ``x`` is no floating point tensor.
        ValueError: autograd cannot differentiate the function.

    Example:
        >>> slope("relu", torch.tensor([-1.0, 2.0]))
        tensor([0., 1.])
    """
    f = as_activation(activation)
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x: expected a floating point tensor, got {got}")
    with torch.inference_mode(False), torch.enable_grad():
        inputs = x.detach().clone().requires_grad_()
        outputs = f.function(inputs)
        if not outputs.requires_grad:
            raise ValueError(
                f"activation: expected a function that autograd can differentiate, "
                f"got {f.name}. Build it from torch operations only."
            )
        return torch.autograd.grad(outputs.sum(), inputs)[0]


def second_moment(activation: ActivationLike, variance: float = 1.0) -> float:
    """E f(x)^2 for x ~ N(0, variance): the size of the signal after f.

    Example:
        >>> round(second_moment("relu", variance=3.0), 10)
        1.5
    """
    f = as_activation(activation).function
    return gaussian_expectation(lambda x: f(x) ** 2, variance)


def slope_second_moment(activation: ActivationLike, variance: float = 1.0) -> float:
    """E f'(x)^2 for x ~ N(0, variance): what f does to a squared gradient.

    Example:
        >>> round(slope_second_moment("relu"), 10)
        0.5
    """
    return gaussian_expectation(lambda x: slope(activation, x) ** 2, variance)


def max_slope(activation: ActivationLike) -> float:
    """Largest |f'(x)|, found on a fine grid that reaches from -100 to 100.

    Example:
        >>> max_slope("sigmoid"), round(max_slope("gelu"), 3)
        (0.25, 1.129)
    """
    fine = torch.linspace(0, 10, 20_001, dtype=torch.float64, device="cpu")
    half = torch.cat([fine, 10 * fine])
    return float(slope(activation, torch.cat([-half, half])).abs().max())


def quadrature_gain(activation: ActivationLike, variance: float = 1.0) -> float:
    """The gain that keeps the variance of a layer's inputs at ``variance``.

    gain = sqrt(variance / E f(x)^2),  x ~ N(0, variance)

    Args:
        activation: A name, function or module, as for `as_activation`.
        variance: Variance to keep; > 0.

    Returns:
        The gain: weights get the standard deviation gain / sqrt(fan_in).

    Raises:
        ValueError: f is zero everywhere, so that no gain keeps a signal.

    Example:
        >>> round(quadrature_gain("gelu") ** 2, 3)
        2.352

    References:
        He et al. 2015, https://arxiv.org/abs/1502.01852
    """
    variance = check_positive(variance, "variance")
    moment = second_moment(activation, variance)
    if not moment > 0:
        name = as_activation(activation).name
        raise ValueError(
            f"activation: expected E f(x)^2 > 0, got {moment:g} for {name} at variance "
            f"{variance:g}. No gain can help."
        )
    return math.sqrt(variance / moment)


def gain(activation: ActivationLike) -> float:
    """Recommended gain: torch's value where torch has one, else by quadrature.

    Torch's values are conventions: 5/3 for tanh and 3/4 for SELU do not keep the
    variance at 1. `quadrature_gain` is the value that does.

    Args:
        activation: A name, function or module, as for `as_activation`.

    Returns:
        The gain: weights get the standard deviation gain / sqrt(fan_in).

    Raises:
        ValueError: the name is unknown, or f is zero everywhere.

    Example:
        >>> gain("tanh"), round(gain("silu"), 4)
        (1.6666666666666667, 1.6765)
    """
    known = as_activation(activation).torch_gain
    return quadrature_gain(activation) if known is None else known
