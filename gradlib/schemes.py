"""Draw initial weights by the name of a scheme.

The schemes of ``torch.nn.init``, applied to every linear and convolutional layer of
a model. A scheme sets the standard deviation of a weight to gain / sqrt(fan_in),
where fan_in is the number of inputs that one output sums over; what this does to a
deep net is the subject of `gradlib.theory` and of `gradlib.audit`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.nn.parameter import is_lazy

from gradlib.activations import ActivationLike
from gradlib.activations import gain as recommended_gain
from gradlib.errors import check_choice, check_generator, check_model, check_positive

Model = TypeVar("Model", bound=nn.Module)
Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Scheme:
    """A way to draw weights.

    Args:
        name: What `initialize_` knows it by.
        fill: Draws a weight tensor in place, given gain and generator.
        gain: Its gain, or None if the activation decides.
    """

    name: str
    fill: Callable[..., object]
    gain: float | None


def fan_in(weight: Tensor) -> int:
    """Number of inputs that one output of a linear or convolutional layer sums."""
    return math.prod(weight.shape[1:])


def _normal(weight: Tensor, gain: float, generator: torch.Generator | None) -> None:
    init.normal_(weight, 0.0, gain / math.sqrt(fan_in(weight)), generator)


def _uniform(weight: Tensor, gain: float, generator: torch.Generator | None) -> None:
    bound = math.sqrt(3.0) * gain / math.sqrt(fan_in(weight))
    init.uniform_(weight, -bound, bound, generator)


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("lecun", _normal, 1.0),
        Scheme("xavier", init.xavier_normal_, 1.0),
        Scheme("he", _normal, None),
        Scheme("orthogonal", init.orthogonal_, None),
        Scheme("normal", _normal, 1.0),
        Scheme("torch", _uniform, math.sqrt(1 / 3)),
    )
}
"""Every scheme that gradlib knows by name."""


def initialize_(
    model: Model,
    scheme: str,
    *,
    activation: ActivationLike = "relu",
    gain: float | None = None,
    std: float | None = None,
    bias_std: float | None = None,
    generator: torch.Generator | None = None,
) -> Model:
    """Draw the weights of every linear and convolutional layer, in place.

    ============  ==========================================  ====================
    scheme        standard deviation of a weight              gain unless given
    ============  ==========================================  ====================
    lecun         gain / sqrt(fan_in)                         1
    xavier        gain sqrt(2 / (fan_in + fan_out))           1
    he            gain / sqrt(fan_in)                         the activation's
    orthogonal    rows or columns orthogonal, of norm gain    the activation's
    normal        ``std``, or else gain / sqrt(fan_in)        1
    torch         gain / sqrt(fan_in), uniform                1 / sqrt(3)
    ============  ==========================================  ====================

    "torch" is what layers have after construction: kaiming_uniform_ with a = sqrt(5).
    Biases become zero, except that "torch" draws them from U(-b, b) with
    b = 1 / sqrt(fan_in). Norms, embeddings, recurrent and transposed layers stay as
    they are.

    Args:
        model: Any module; wrap layers in spectral or weight norm only afterwards.
        scheme: One of `SCHEMES`.
        activation: Its `gradlib.gain` serves "he" and "orthogonal".
        gain: Replaces the scheme's gain; > 0.
        std: Standard deviation of all weights; > 0; only for "normal".
        bias_std: Standard deviation of normal biases; >= 0.
        generator: Source of the draws, by default torch's global one. Weights are
            drawn on its device, then moved to the model's.

    Returns:
        The model.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: a name is unknown, a number out of range, ``std`` given with a
            gain or another scheme, or the model has no layer to draw.

    Example:
        >>> model = nn.Sequential(nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 10))
        >>> generator = torch.Generator().manual_seed(0)
        >>> model = initialize_(model, "he", generator=generator)
        >>> round(400 * model[0].weight.var().item(), 1)
        2.0

    References:
        LeCun et al. 1998, https://doi.org/10.1007/3-540-49430-8_2
        Glorot and Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html
        He et al. 2015, https://arxiv.org/abs/1502.01852
        Saxe et al. 2014, https://arxiv.org/abs/1312.6120
    """
    check_generator(generator)
    chosen = SCHEMES[check_choice(scheme, "scheme", SCHEMES)]
    if std is not None and (gain is not None or chosen.name != "normal"):
        raise ValueError(
            "std: expected only with the scheme 'normal' and without gain, got "
            f"std={std!r} with {scheme!r}, gain={gain!r}. Give gain instead."
        )
    if gain is None:
        gain = chosen.gain if chosen.gain is not None else recommended_gain(activation)
    gain = check_positive(gain, "gain")
    if std is not None:
        std = check_positive(std, "std")
    if bias_std is not None:
        bias_std = check_positive(bias_std, "bias_std", zero_ok=True)
    for name, layer in weight_layers(model).items():
        if not isinstance(layer.weight, nn.Parameter):
            raise ValueError(
                f"model: expected plain weights, but {name or 'it'} computes its "
                "own (spectral norm, weight norm, pruning). Initialize first."
            )
        n = fan_in(layer.weight)
        scale = gain if std is None else std * math.sqrt(n)
        _draw(layer.weight, partial(chosen.fill, gain=scale), generator)
        if layer.bias is None:
            continue
        if bias_std is None and chosen.name == "torch":
            bound = 1 / math.sqrt(n)
            _draw(layer.bias, partial(init.uniform_, a=-bound, b=bound), generator)
        else:
            _draw(layer.bias, partial(init.normal_, std=bias_std or 0.0), generator)
    return model


def weight_layers(model: nn.Module) -> dict[str, Layer]:
    """The linear and convolutional layers of a model by name, in its own order.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: it has no such layer, or a lazy one.

    Example:
        >>> list(weight_layers(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())))
        ['0']
    """
    check_model(model)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, LAYERS)}
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


@torch.no_grad()
def _draw(
    target: Tensor, fill: Callable[..., object], generator: torch.Generator | None
) -> None:
    """Fill a tensor in single precision or better, on the generator's device."""
    dtype = torch.promote_types(target.dtype, torch.float32)
    device = target.device if generator is None else generator.device
    drawn = torch.empty(target.shape, dtype=dtype, device=device)
    fill(drawn, generator=generator)
    target.copy_(drawn)
