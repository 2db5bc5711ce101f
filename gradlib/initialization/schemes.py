"""Draw initial weights: by the name of a scheme, from a batch, for residual nets.

The schemes of ``torch.nn.init``, applied to every linear and convolutional layer of
a model. A scheme sets the standard deviation of a weight to gain / sqrt(fan_in),
where fan_in is the number of inputs that one output sums over; what this does to a
deep net is the subject of `gradlib.theory` and of `gradlib.audit`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import init

from gradlib.activations import ActivationLike
from gradlib.activations import gain as recommended_gain
from gradlib.checks import (
    check_choice,
    check_count,
    check_generator,
    check_positive,
)
from gradlib.errors import explained
from gradlib.initialization.weight_layers import fan_in, observed, weight_layers
from gradlib.state import unchanged

Model = TypeVar("Model", bound=nn.Module)


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


@torch.no_grad()
def lsuv_(
    model: Model,
    batch: Tensor,
    *,
    tolerance: float = 0.1,
    max_steps: int = 10,
    generator: torch.Generator | None = None,
) -> Model:
    """Layer-sequential unit-variance initialization, in place.

    Draw orthogonal weights; then, layer by layer in the order in which they run,
    W <- W / std(output) until the variance of the output is 1 for this batch.

    Args:
        model: Any module with linear or convolutional layers; its buffers and mode
            stay as they are. A layer that does not run keeps orthogonal weights.
        batch: Inputs, as in training: a few hundred examples.
        tolerance: Distance of a variance from 1 that is good enough; > 0.
        max_steps: Most corrections of one layer.
        generator: Source of the orthogonal weights.

    Returns:
        The model.

    Raises:
        TypeError: ``batch`` is not a tensor.
        ValueError: a layer's output has variance 0 or is not finite for this batch.

    Example:
        >>> net = nn.Sequential(nn.Linear(20, 50), nn.GELU(), nn.Linear(50, 50))
        >>> batch = torch.randn(100, 20)
        >>> bool((lsuv_(net, batch)(batch).var() - 1).abs() < 0.1)
        True

    References:
        Mishkin and Matas 2016, https://arxiv.org/abs/1511.06422
    """
    tolerance = check_positive(tolerance, "tolerance")
    check_count(max_steps, "max_steps")
    if not isinstance(batch, Tensor):
        raise TypeError(
            f"batch: expected a tensor of inputs, got {type(batch).__name__}. Of a "
            "pair (inputs, targets) give the inputs."
        )
    initialize_(model, "orthogonal", gain=1.0, generator=generator)
    layers = weight_layers(model)
    for name in _variances(model, batch):
        for _ in range(max_steps):
            variance = _variances(model, batch)[name]
            if abs(variance - 1) <= tolerance:
                break
            if not 0 < variance < float("inf"):
                raise ValueError(
                    f"batch: expected outputs of {name} that vary, got variance "
                    f"{variance}. Give more examples, finite and not all alike."
                )
            layers[name].weight /= variance**0.5
    return model


@torch.no_grad()
def fixup_(
    model: Model,
    *,
    activation: ActivationLike = "relu",
    branches: Sequence[Sequence[nn.Module]] | None = None,
    generator: torch.Generator | None = None,
) -> Model:
    """Fixup initialization of a residual net without norms, in place.

    He's weights, with these changes in the residual branches: the last layer of each
    becomes zero, the others are multiplied by L^(-1 / (2 m - 2)), where L is the
    number of branches and m the number of layers in one. The output layer becomes
    zero too, so that the first gradient reaches that layer only. The scalar biases
    and multipliers that the paper adds to each branch are left to the model.

    Args:
        model: A net with plain residual branches, such as
            ``deep_mlp(depth, width, residual="plain", branch_layers=2)``.
        activation: Its gain sets the scale of He's weights.
        branches: The layers of each residual branch in order; by default
            ``model.branches``.
        generator: Source of the draws.

    Returns:
        The model.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: there are no branches, they hold other modules than linear and
            convolutional layers, or the model scales them itself.

    Example:
        >>> from gradlib.models import deep_mlp
        >>> model = deep_mlp(6, 8, residual="plain", branch_layers=2)
        >>> model = fixup_(model)
        >>> [bool(layer.weight.any()) for layer in model.layers]
        [True, True, False, True, False, False]

    References:
        Zhang et al. 2019, https://arxiv.org/abs/1901.09321
    """
    layers = weight_layers(model)
    residual = getattr(model, "residual", None)
    if residual in ("scaled", "rezero"):
        raise ValueError(
            f"model: expected residual='plain', got {residual!r}, which scales the "
            "branches already. Choose one of the two cures."
        )
    if branches is None:
        branches = getattr(model, "branches", [])
    known = set(layers.values())
    listed = isinstance(branches, Sequence) and all(
        isinstance(b, Sequence) and b and known.issuperset(b) for b in branches
    )
    if not branches or not listed:
        raise ValueError(
            "branches: expected the linear or convolutional layers of each residual "
            f"branch, got {branches!r:.80}. Build the model with residual='plain', or "
            "name its branches."
        )
    initialize_(model, "he", activation=activation, generator=generator)
    for branch in branches:
        *inner, last = [layer.get_parameter("weight") for layer in branch]
        for weight in inner:
            weight *= len(branches) ** (-1 / (2 * len(branch) - 2))
        nn.init.zeros_(last)
    nn.init.zeros_(list(layers.values())[-1].weight)
    return model


def _variances(model: nn.Module, batch: Tensor) -> dict[str, float]:
    """Variance of each layer's first output, in the order in which they run."""
    found: dict[str, Tensor] = {}

    def watch(name: str, output: Tensor) -> None:
        found.setdefault(name, output.double().var())

    with unchanged(model), observed(model, watch), explained("model", inputs=batch):
        model(batch)
    return {name: float(variance) for name, variance in found.items()}
