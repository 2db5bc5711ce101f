"""What the layers of a model do to signals and gradients, predicted and measured.

Signals are followed by their mean square, gradients by their squared norm; the
factors of the norms themselves are the square roots. Both are those of the layers'
outputs, before the activation.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gradlib.activations import ActivationLike, as_activation
from gradlib.checks import check_generator, check_model
from gradlib.errors import explained
from gradlib.initialization.weight_layers import (
    inputs_of,
    mean_square,
    observed,
    weight_layers,
)
from gradlib.state import unchanged
from gradlib.theory.critical_line import inside_limits
from gradlib.theory.mean_field import chi, variance_map


class Growth(NamedTuple):
    """Factors by which a signal grows forward and a gradient backward."""

    forward: float
    backward: float


def predicted_growth(
    model: nn.Module, activation: ActivationLike, *, renormalized: bool = False
) -> dict[str, Growth]:
    """Growth through each layer by mean-field theory, for an input of variance 1.

    forward = (gain^2 E f(x)^2 + b^2) / q,  backward = gain^2 E f'(x)^2,
    x ~ N(0, q), gain^2 = fan_in * mean square of the weights, b^2 that of the biases

    The first layer reads the input without an activation.

    Args:
        model: A net of linear or convolutional layers in a row.
        activation: Its activation: a name, function or module.
        renormalized: Whether a norm brings the inputs of each activation back to
            q = 1.

    Returns:
        Growth by name of the layer.

    Example:
        >>> net = nn.Sequential(nn.Linear(500, 500), nn.ReLU(), nn.Linear(500, 500))
        >>> round(predicted_growth(net, "relu")["2"].backward, 2)  # torch's default
        0.17
    """
    growth: dict[str, Growth] = {}
    q = 1.0
    for name, layer in weight_layers(model, transposed=True).items():
        sigma_w2 = inputs_of(layer) * mean_square(layer.weight)
        sigma_b2 = 0.0 if layer.bias is None else mean_square(layer.bias)
        f = as_activation(activation if growth else "identity")
        near = 1.0 if renormalized else inside_limits(q)
        if not math.isfinite(near + sigma_w2 + sigma_b2):
            growth[name] = Growth(math.nan, math.nan)
        elif sigma_w2 == 0:
            growth[name] = Growth(sigma_b2 / near, 0.0)
        else:
            q_next = variance_map(f, near, sigma_w2, sigma_b2)
            growth[name] = Growth(q_next / near, chi(f, sigma_w2, q=near))
        q = near * growth[name].forward
    return growth


@torch.no_grad()
def example_growth(model: nn.Module, batch: Tensor) -> Tensor:
    """Growth of each example's signal, from the batch or first layer to the last layer.

    A mean over the batch can be that of a few examples whose signals explode, while
    those of all others vanish.

    Args:
        model: As for `measured_growth`.
        batch: Inputs, one example a row.

    Returns:
        Shape (examples,): ratio of mean squares; NaN for an example that is all zero.
        Empty where a layer's output does not have a row for each example.

    Example:
        >>> net = nn.Linear(2, 2, bias=False)
        >>> _ = nn.init.eye_(net.weight)
        >>> example_growth(net, torch.tensor([[1.0, 0.0], [0.0, 5.0]]))
        tensor([1., 1.], dtype=torch.float64)
    """
    signals: dict[str | None, Tensor] = {}  # None: the batch itself

    def watch(name: str | None, tensor: Tensor) -> None:
        rows = tensor.detach().double().reshape(len(tensor), -1)
        signals.setdefault(name, rows.square().mean(1))

    with unchanged(model), observed(model, watch, transposed=True):
        if batch.is_floating_point():
            watch(None, batch)
        model(batch)
    found = list(signals.values())
    first, last = found[0], found[-1]
    if not len(first) == len(last) == len(batch):
        return torch.empty(0, dtype=torch.float64)
    return last / first


def measured_growth(
    model: nn.Module, batch: Tensor, generator: torch.Generator | None = None
) -> tuple[dict[str, Growth], Growth]:
    """Growth through each layer for one batch and a random gradient at the output.

    A layer is compared with the one that ran before it, the first one with the batch
    (NaN if that holds tokens). A layer that runs several times counts once.

    Args:
        model: Any module that maps a tensor to a tensor; keeps its gradients, buffers
            and mode.
        batch: Inputs.
        generator: Source of the gradient at the output.

    Returns:
        Growth by name in order of execution, and that from the first to the last.

    Raises:
        TypeError: batch or output is not a tensor.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4))
        >>> _ = nn.init.eye_(net[0].weight)
        >>> steps, total = measured_growth(net, torch.ones(2, 4))
        >>> steps["0"]
        Growth(forward=1.0, backward=1.0)
    """
    if not isinstance(batch, Tensor):
        raise TypeError(
            f"batch: expected a tensor of inputs, got {type(batch).__name__}. Of a "
            "pair (inputs, targets) give the inputs."
        )
    check_model(model)
    check_generator(generator)
    signals: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}
    outputs: list[Tensor] = []

    def watch(name: str, tensor: Tensor) -> None:
        def keep(gradient: Tensor) -> None:
            gradients[name] = gradient.double().square().sum()

        if name not in signals:
            signals[name] = tensor.detach().double().square().mean()
            gradients[name] = torch.full_like(signals[name], math.nan)
            if tensor.requires_grad:
                outputs.append(tensor)
                tensor.register_hook(keep)  # type: ignore[no-untyped-call]

    with unchanged(model), torch.enable_grad(), observed(model, watch, transposed=True):
        x = batch.detach().clone()
        sources: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        if x.is_floating_point():
            sources = [x.requires_grad_()]
            watch("", x)
        with explained("model", inputs=x):
            output = model(x)
        if not isinstance(output, Tensor):
            raise TypeError(
                "model: expected one that returns a tensor, got "
                f"{type(output).__name__} from {type(model).__name__}"
            )
        device = output.device if generator is None else generator.device
        v = torch.randn(output.shape, generator=generator, device=device).to(output)
        # sharded parameters are not those that the graph holds; outputs always are
        sources += outputs
        torch.autograd.grad((output * v).sum(), sources, allow_unused=True)

    def between(first: str, last: str) -> Growth:
        forward = signals[last] / signals[first]
        return Growth(float(forward), float(gradients[first] / gradients[last]))

    names = list(signals)
    growth = {name: Growth(math.nan, math.nan) for name in names[:1] if name}
    growth |= {last: between(first, last) for first, last in pairwise(names)}
    return growth, between(names[0], names[-1])
