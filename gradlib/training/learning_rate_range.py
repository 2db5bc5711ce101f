"""The learning-rate range test: raise the rate step by step, watch the loss."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer
from tqdm import tqdm

from gradlib.checks import check_count, check_positive
from gradlib.clip import Clip, as_clipper
from gradlib.errors import DivergenceError, NonFiniteGradientError
from gradlib.state import parameters_of, unchanged
from gradlib.training.loop import (
    Batch,
    LossFunction,
    ModelLoss,
    backward,
    groups_of_batches,
    make_optimizer,
    ways_to_loss,
)

_WINDOW = 5


@dataclass(frozen=True, repr=False)
class RangeTest:
    """What `lr_range_test` found.

    Attributes:
        lrs: Learning rates, rising.
        losses: Loss before the step with that rate.
        smoothed: Medians of five neighboring losses.
        suggestion: A tenth of the rate at which the smoothed loss is lowest; None
            if it never fell below 95 % of its start.
    """

    lrs: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float | None

    def __repr__(self) -> str:
        told = (
            "no suggestion: the loss never fell. Try a smaller lr_min or more steps."
            if self.suggestion is None
            else f"suggestion: lr={self.suggestion:.2g}"
        )
        return (
            f"{len(self.lrs)} steps with lr from {self.lrs[0]:.2g} to "
            f"{self.lrs[-1]:.2g}; {told}"
        )


def lr_range_test(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    optimizer: Optimizer | Callable[..., Optimizer] = SGD,
    loss_fn: LossFunction = F.cross_entropy,
    loss: ModelLoss | None = None,
    lr_min: float = 1e-5,
    lr_max: float = 10.0,
    steps: int = 100,
    clip: Clip | None = None,
    progress: bool = False,
) -> RangeTest:
    """Train with a rate that rises from step to step, then put everything back.

    lr_t = lr_min * (lr_max / lr_min)^(t / (steps - 1)), for all parameter groups. It
    ends early where the loss is not finite, or the median of the last five is four
    times the first loss. Afterwards parameters, buffers, gradients, modes, the
    optimizer and torch's random state are as before; a generator of batches has
    moved on.

    Args:
        model: Any module.
        batches: Pairs (inputs, targets), or of any form with ``loss``, as for `fit`.
        optimizer: An optimizer, or a function that makes one from the parameters.
        loss_fn: (outputs, targets) -> mean loss.
        loss: (model, batch) -> mean loss, as for `fit`.
        lr_min: First learning rate.
        lr_max: Last learning rate.
        steps: Number of rates.
        clip: As for `fit`.
        progress: Show a progress bar.

    Returns:
        Rates, losses and a suggestion. Read it as an order of magnitude.

    Raises:
        DivergenceError: the very first loss is not finite.
        ValueError: ``lr_max`` is not above ``lr_min``, or as for `fit`.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model, x = nn.Linear(4, 1), torch.randn(64, 4)
        >>> batches = [(x, x.sum(1, keepdim=True))]
        >>> result = lr_range_test(model, batches, loss_fn=F.mse_loss)
        >>> 0.01 < result.suggestion < 0.1
        True

    References:
        Smith 2017, https://arxiv.org/abs/1506.01186
    """
    clipper = as_clipper(clip)
    low, high = check_positive(lr_min, "lr_min"), check_positive(lr_max, "lr_max")
    if not high > low:
        raise ValueError(f"lr_max: expected more than lr_min={low:g}, got {high:g}")
    check_count(steps, "steps", least=2)
    rates = [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]
    compute = ways_to_loss(loss_fn, loss)
    groups = groups_of_batches(batches, steps=steps, pairs=loss is None)
    optimizer = make_optimizer(model, optimizer, lr=None)
    losses: list[float] = []
    with unchanged(model, optimizer):
        if not model.training:
            model.train()
        pairs = zip(rates, groups, strict=True)
        for rate, group in tqdm(pairs, total=steps, disable=not progress):
            for settings in optimizer.param_groups:
                settings["lr"] = rate
            value = float(backward(model, group, compute))
            if not math.isfinite(value):
                break
            losses.append(value)
            if median(losses[-_WINDOW:]) > losses[0] + 3 * abs(losses[0]):
                break
            try:
                if clipper is not None:
                    clipper(parameters_of(optimizer))
            except NonFiniteGradientError:
                break
            optimizer.step()
            optimizer.zero_grad()
    if not losses:
        raise DivergenceError(0, value, "before any step")
    return _result(rates[: len(losses)], losses)


def _result(lrs: list[float], losses: list[float]) -> RangeTest:
    half = _WINDOW // 2
    smoothed = [
        median(losses[max(0, i - half) : i + half + 1]) for i in range(len(losses))
    ]
    lowest = min(smoothed)
    fell = lowest < smoothed[0] - 0.05 * abs(smoothed[0])
    suggestion = lrs[smoothed.index(lowest)] / 10 if fell else None
    return RangeTest(lrs, losses, smoothed, suggestion)
