"""The layers whose weights a scheme draws: linear and convolutional ones."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gradlib.checks import check_model
from gradlib.hooks import Hooks
from gradlib.measure.sharded import whole_of


def mean_square(tensor: Tensor) -> float:
    """Mean of the squares, in float64; of the whole, where processes share it."""
    return float(whole_of(tensor.detach()).double().square().mean())


@contextmanager
def observed(
    model: nn.Module, watch: Callable[[str, Tensor], None], *, transposed: bool = False
) -> Iterator[None]:
    """Call ``watch(name, output)`` whenever a linear or convolutional layer runs."""

    def hook(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda layer, inputs, output: watch(name, output)

    with Hooks() as hooks:
        for name, layer in weight_layers(model, transposed=transposed).items():
            hooks.keep(layer.register_forward_hook(hook(name)))
        yield


Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fan_in(weight: Tensor) -> int:
    """Number of inputs that one output of a linear or convolutional layer sums."""
    return math.prod(weight.shape[1:])


def is_transposed(module: nn.Module) -> bool:
    """Whether a module is a linear layer with weights (inputs, outputs).

    That is ``Conv1D`` of transformers, which GPT-2 is made of.
    """
    weight = getattr(module, "weight", None)
    named = type(module).__name__ == "Conv1D" and hasattr(module, "nf")
    return named and isinstance(weight, Tensor) and weight.ndim == 2


def inputs_of(layer: nn.Module) -> int:
    """Number of inputs that one output of a layer sums."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return int(weight.shape[0]) if is_transposed(layer) else fan_in(weight)


def weight_layers(model: nn.Module, *, transposed: bool = False) -> dict[str, Layer]:
    """The linear and convolutional layers of a model by name, in its own order.

    Args:
        model: Any module.
        transposed: Also linear layers with weights (inputs, outputs).

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: it has no such layer, or a lazy one.

    Example:
        >>> list(weight_layers(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())))
        ['0']
    """
    check_model(model)
    layers: dict[str, Layer] = {
        n: m
        for n, m in model.named_modules()
        if isinstance(m, LAYERS) or (transposed and is_transposed(m))
    }
    for name, layer in layers.items():
        if is_lazy(layer.weight):
            raise ValueError(
                f"model: expected weights with a shape, but {name} is lazy. Run one "
                "batch through the model first."
            )
    layers = {name: layer for name, layer in layers.items() if layer.weight.numel()}
    if not layers:
        raise ValueError(
            "model: expected at least one linear or convolutional layer, got none in "
            f"{type(model).__name__}"
        )
    return layers
