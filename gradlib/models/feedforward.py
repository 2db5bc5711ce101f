"""Feedforward networks: plain, normed or residual, and a small convolutional one."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from gradlib.activations import ActivationLike, as_activation
from gradlib.checks import check_choice, check_count
from gradlib.state import seeded

RESIDUALS = ("plain", "scaled", "rezero")


class Feedforward(nn.Module):
    """Layers in a row, with a norm and an activation before each but the first.

    x <- W_l f(norm(x))  for a plain net,  x <- x + scale F(x)  over residual blocks,
    where F is one or more such steps; the last step is never residual.

    Attributes:
        layers: All weight layers; the first reads the input, the last one answers.
        branches: The layers of each residual branch; empty for a plain net.
        scales: The learned scale of each branch (ReZero), else None.
        scale: The fixed scale of all branches; 1 / sqrt(branches) if scaled.
    """

    def __init__(
        self,
        layers: list[nn.Module],
        norms: list[nn.Module],
        activations: list[nn.Module],
        *,
        pool: nn.Module | None = None,
        residual: str | None = None,
        branch_layers: int = 1,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(norms)
        self.activations = nn.ModuleList(activations)
        self.pool = pool
        self.residual = residual
        self.branch_layers = branch_layers if residual else 0
        blocks = len(self.branches)
        self.scale = 1 / math.sqrt(blocks) if residual == "scaled" and blocks else 1.0
        self.scales = (
            nn.Parameter(torch.zeros(blocks)) if residual == "rezero" else None
        )

    @property
    def branches(self) -> list[list[nn.Module]]:
        m, hidden = self.branch_layers, list(self.layers)[1:-1]
        return [hidden[k : k + m] for k in range(0, len(hidden), m)] if m else []

    def through(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Norm, activation and layer, for the layers ``start`` >= 1 to ``stop`` - 1."""
        layers, activations = list(self.layers), list(self.activations)
        norms, last = list(self.norms), len(layers) - 1
        for k in range(start, stop):
            if norms:
                x = norms[k - 1](x)
            x = activations[k - 1](x)
            if k == last and self.pool is not None:
                x = self.pool(x)
            x = layers[k](x)
        return x

    def branch(self, x: Tensor, block: int) -> Tensor:
        """The residual branch of a block, scaled, without the skip."""
        first = 1 + block * self.branch_layers
        x = self.through(x, first, first + self.branch_layers)
        return x * (self.scale if self.scales is None else self.scales[block])

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers[0](x.flatten(1) if self.pool is None else x)
        for block in range(len(self.branches)):
            x = x + self.branch(x, block)
        depth = len(self.layers)
        return self.through(x, depth - 1 if self.branch_layers else 1, depth)


def deep_mlp(
    depth: int,
    width: int,
    *,
    in_features: int = 784,
    out_features: int = 10,
    activation: ActivationLike = "relu",
    norm: str | None = None,
    residual: str | None = None,
    branch_layers: int = 1,
    bias: bool = True,
    seed: int | None = None,
) -> Feedforward:
    """A fully connected net, plain or residual. It flattens its input.

    Args:
        depth: Weight layers in all, the output layer included.
        width: Units of each hidden layer.
        in_features: Numbers in one flattened example.
        out_features: Numbers in one answer, such as classes.
        activation: A name, function or module.
        norm: None, "batch", "layer" or "rms"; before every activation.
        residual: None, "plain" (x + F(x)), "scaled" (F over the square root of the
            number of blocks) or "rezero" (F times a learned number that starts at 0).
        branch_layers: Weight layers in each F; divides ``depth`` - 2.
        bias: Whether layers have biases.
        seed: Draws torch's default weights from this seed and leaves torch's random
            state alone; None draws from that state.

    Returns:
        A `Feedforward` with parameters ``layers.0.weight``, ``layers.0.bias``, ...

    Raises:
        ValueError: a count is too small, a name unknown, or the branches don't fit
            the depth.

    Example:
        >>> model = deep_mlp(depth=3, width=8, in_features=4)
        >>> [name for name, _ in model.named_parameters() if "weight" in name]
        ['layers.0.weight', 'layers.1.weight', 'layers.2.weight']
        >>> model(torch.zeros(5, 2, 2)).shape
        torch.Size([5, 10])

    References:
        He et al. 2016 (residual), https://arxiv.org/abs/1603.05027
        Bachlechner et al. 2020 (ReZero), https://arxiv.org/abs/2003.04887
    """
    norms = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "rms": nn.RMSNorm}
    check_shape(depth, residual, branch_layers)
    check_count(width, "width")
    sizes = [
        check_count(in_features, "in_features"),
        *[width] * (depth - 1),
        check_count(out_features, "out_features"),
    ]
    if norm is not None:
        check_choice(norm, "norm", norms)
    act = as_activation(activation)
    with seeded(seed):
        return Feedforward(
            [nn.Linear(a, b, bias) for a, b in pairwise(sizes)],
            [norms[norm](width) for _ in range(depth - 1)] if norm else [],
            [act.module() for _ in range(depth - 1)],
            residual=residual,
            branch_layers=branch_layers,
        )


def small_cnn(
    depth: int = 6,
    channels: int = 16,
    *,
    in_channels: int = 1,
    out_features: int = 10,
    activation: ActivationLike = "relu",
    norm: str | None = None,
    residual: str | None = None,
    branch_layers: int = 1,
    bias: bool = True,
    seed: int | None = None,
) -> Feedforward:
    """A convolutional net for small images, plain or residual.

    Convolutions of 3 x 3, the first with stride 2, then the mean over the image and
    one linear layer.

    Args:
        depth: Weight layers in all: ``depth`` - 1 convolutions and the output layer.
        channels: Channels of each convolution.
        in_channels: Channels of the images: 1 if gray, 3 if in color.
        out_features: Numbers in one answer, such as classes.
        activation: A name, function or module.
        norm: None, "batch", or "layer" (over channels and image: one group).
        residual: As for `deep_mlp`.
        branch_layers: Convolutions in each branch; divides ``depth`` - 2.
        bias: Whether layers have biases.
        seed: As for `deep_mlp`.

    Raises:
        ValueError: a count is too small, a name unknown, or the branches don't fit
            the depth.

    Example:
        >>> model = small_cnn(depth=4, residual="plain")
        >>> model(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    check_shape(depth, residual, branch_layers, least=2)
    check_count(channels, "channels")
    sizes = [check_count(in_channels, "in_channels"), *[channels] * (depth - 1)]
    check_count(out_features, "out_features")
    if norm is not None:
        check_choice(norm, "norm", ("batch", "layer"))
    act = as_activation(activation)
    with seeded(seed):
        layers: list[nn.Module] = [
            nn.Conv2d(a, b, 3, stride=1 if k else 2, padding=1, bias=bias)
            for k, (a, b) in enumerate(pairwise(sizes))
        ]
        layers.append(nn.Linear(channels, out_features, bias))
        norms: list[nn.Module] = [
            nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(1, channels)
            for _ in range(depth - 1 if norm else 0)
        ]
        return Feedforward(
            layers,
            norms,
            [act.module() for _ in range(depth - 1)],
            pool=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            residual=residual,
            branch_layers=branch_layers,
        )


def check_shape(
    depth: int, residual: str | None, branch_layers: int, *, least: int = 1
) -> None:
    """Raise ``ValueError`` unless residual branches fill the depth exactly."""
    check_count(depth, "depth", least=least)
    check_count(branch_layers, "branch_layers")
    if residual is None:
        return
    check_choice(residual, "residual", RESIDUALS)
    if depth < 2 + branch_layers or (depth - 2) % branch_layers:
        raise ValueError(
            f"depth: expected 2 + a multiple of branch_layers = {branch_layers}, for "
            f"the first layer, the residual branches and the last one; got {depth}"
        )
