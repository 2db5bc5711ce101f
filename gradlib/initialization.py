"""Initial weights: by the name of a scheme, from a batch, and for residual nets.

The schemes are in `gradlib.schemes`, the audit of what weights do is in
`gradlib.auditing`; the best known can be imported from here as well.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from gradlib.activations import ActivationLike
from gradlib.auditing import Audit as Audit
from gradlib.auditing import audit as audit
from gradlib.errors import check_count, check_positive
from gradlib.forward import explained
from gradlib.propagation import observed, untouched
from gradlib.schemes import SCHEMES as SCHEMES
from gradlib.schemes import initialize_ as initialize_
from gradlib.schemes import weight_layers

Model = TypeVar("Model", bound=nn.Module)


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

    with untouched(model), observed(model, watch), explained("model", inputs=batch):
        model(batch)
    return {name: float(variance) for name, variance in found.items()}
