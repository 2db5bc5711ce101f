"""The naive loss: what a model that ignores its input would reach."""

import math
from collections import Counter
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn

from gradlib.diagnosis.evidence.function_calls import LossCall
from gradlib.diagnosis.evidence.loss_curve import median
from gradlib.diagnosis.nested import mapped, samples, tensors
from gradlib.diagnosis.training_setup import TrainingSetup
from gradlib.hooks import Hooks
from gradlib.training.loop import count_of

# Batches that the constant is fitted on: at least a few, until there are so many
# samples, at most a hundred; the Newton step needs fewer.
FEWEST_BATCHES = 8
# Part of the data between two batches that are read: the golden section spreads them.
SPREAD = 0.618
ENOUGH_SAMPLES = 64
MOST_BATCHES = 100
NEWTON_BATCHES = 8
# Gradient descent: so many steps of this size go from 0 to the logits of a rare class.
DESCENT_STEPS = 24
DESCENT_RATE = 0.3
# Probabilities sum to 1 within half precision; other outputs are further away.
SUM_OF_ONE = 1e-3
# Curvature below which a loss counts as straight: rounding is 1e-7, squares are 1.
STRAIGHT = 1e-9
# What an update returns and the mean of its losses are one number, but for rounding.
AGREES = 1e-3
# Variance of the targets of one half of a run over that of the other half: 1 but for
# sampling where they are given; those of a critic that runs away grow by hundreds.
MOVING = 2.0
SQUARED = ("MseLoss", "SmoothL1", "HuberLoss")
KNOWN_LOSSES = ("Nll", "MseLoss", "SmoothL1", "HuberLoss", "BinaryCrossEntropy")


class Constant:
    """Replaces what a model puts out by constants, one per output feature.

    The constants stay in the range of the outputs they replace: probabilities stay
    probabilities, log probabilities stay log probabilities. Squared errors take any
    number, and untrained outputs may lie between 0 and 1 by chance.

    Args:
        squared: The loss is a squared error or close to one.
    """

    def __init__(self, squared: bool = False) -> None:
        self.squared = squared
        self.values: dict[Any, Tensor] = {}
        self.calls = 0

    def replace(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        """A forward hook: constants in the form of the output."""
        self.calls += 1
        position = [0]

        def replaced(out: Tensor) -> Tensor:
            position[0] += 1
            if not out.is_floating_point() or out.ndim == 0:
                return out.detach()
            key = (position[0], tuple(out.shape[1:]))
            if key not in self.values:
                self.values[key] = torch.zeros(out.shape[1:]).requires_grad_()
            value = self.values[key]
            if not self.squared:
                value = _in_range(value, out)
            return value.to(out.dtype).expand_as(out)

        return mapped(output, replaced)


def _in_range(value: Tensor, out: Tensor) -> Tensor:
    y = out.detach().float()
    for dim in {1, y.ndim - 1} if y.ndim > 1 else set():
        if y.shape[dim] < 2:
            continue
        if bool(((y.exp().sum(dim) - 1).abs() < SUM_OF_ONE).all()):
            return value.log_softmax(dim - 1)
        if bool((y >= 0).all()) and bool(((y.sum(dim) - 1).abs() < SUM_OF_ONE).all()):
            return value.softmax(dim - 1)
    inside = bool((y >= 0).all()) and bool((y <= 1).all())
    return value.sigmoid() if inside and bool((y > 0).any()) else value


def naive_loss(setup: TrainingSetup, operations: Counter[str]) -> float | None:
    """Loss of the best constant output that is easy to find, or None.

    Fits one constant per output feature: exactly for squared errors, by a few steps
    of gradient descent otherwise. Needs ``loss_fn``, or a ``loss`` that calls the
    model once and ends in an operation of torch whose minimum is known to be good.
    """
    if setup.step is not None:
        return None
    known = any(name.startswith(KNOWN_LOSSES) for name in operations)
    if setup.loss is not None and not known:
        return None
    squared = any(name.startswith(SQUARED) for name in operations)
    constant = Constant(squared)
    with Hooks() as hooks:
        hooks.keep(setup.model.register_forward_hook(constant.replace))
        try:
            return _fitted(setup, constant, _some(setup))
        except Exception:
            return None


def watched_naive_loss(
    losses: list[float], seen: dict[int, list[LossCall]]
) -> float | None:
    """Loss of the best constant for an update that can only be watched, or None.

    Told by the targets it used, where it returns the mean of one loss function: for
    cross-entropy the entropy of the classes (plus (classes - 1)/2n, as n samples show
    it too low), for squared errors the variance of each value.

    Args:
        losses: What each update returned.
        seen: Update -> the calls of loss functions in it.

    References:
        Miller 1955, Note on the bias of information estimates.
    """
    calls = [call for step in seen if step < len(losses) for call in seen[step]]
    for step, found in seen.items():
        if step >= len(losses) or not found:
            return None
        mean = sum(call.value for call in found) / len(found)
        if not math.isclose(mean, losses[step], rel_tol=AGREES):
            return None
    if len({call.function for call in calls}) != 1 or any(
        call.reduction != "mean" for call in calls
    ):
        return None
    if calls[0].function == "mse_loss":
        return _variance(calls)
    return _entropy(calls) if calls[0].function == "cross_entropy" else None


def _variance(calls: list[LossCall]) -> float | None:
    shapes = {call.target.shape[1:] for call in calls if call.target.ndim}
    alike = all(call.output.shape == call.target.shape for call in calls)
    if len(shapes) != 1 or not alike or len(calls) < 2:
        return None
    half = len(calls) // 2
    targets, early, late = (
        torch.cat([call.target.float() for call in part])
        for part in (calls, calls[:half], calls[half:])
    )
    if len(targets) < ENOUGH_SAMPLES:
        return None
    varies, before, after = (float(t.var(0).mean()) for t in (targets, early, late))
    # Targets that the model makes itself move with it.
    moves = max(before, after) > MOVING * min(before, after)
    return None if moves else varies


def _entropy(calls: list[LossCall]) -> float | None:
    if any(call.target.is_floating_point() for call in calls):
        return None
    kept = [call.target[call.target != call.ignored].flatten() for call in calls]
    classes = torch.cat(kept)
    if len(classes) < ENOUGH_SAMPLES:
        return None
    counts = classes.bincount().double()
    counts = counts[counts > 0]
    shares = counts / counts.sum()
    return float(-(shares * shares.log()).sum()) + (len(counts) - 1) / 2 / len(classes)


def _some(setup: TrainingSetup) -> list[int]:
    """Finite batches from all parts of the data, until there are enough samples."""
    total = len(setup.batches)
    stride = next(
        k for k in range(round(total * SPREAD), total + 2) if gcd(k, total) < 2
    )
    chosen: list[int] = []
    count = 0
    for place in range(total):
        index = place * stride % total
        batch = setup.batches[index]
        if len(chosen) >= FEWEST_BATCHES and (
            count >= ENOUGH_SAMPLES or len(chosen) >= MOST_BATCHES
        ):
            break
        if all(bool(t.isfinite().all()) for t in tensors(batch)):
            chosen.append(index)
            count += samples(batch)
    return sorted(chosen)


def _fitted(
    setup: TrainingSetup, constant: Constant, chosen: list[int]
) -> float | None:
    found = [_evaluate(setup, chosen)]
    if setup.loss is not None and constant.calls != len(chosen):
        return None
    values = list(constant.values.values())
    if not values:
        return None
    told = _told(setup, chosen, sum(value.numel() for value in values))
    _newton(setup, chosen[:NEWTON_BATCHES], values)
    found.append(_evaluate(setup, told))
    if not found[1] <= found[0]:
        with torch.no_grad():
            for value in values:
                value.zero_()
    descent = torch.optim.Adam(values, lr=DESCENT_RATE)
    for step in range(DESCENT_STEPS):
        descent.zero_grad()
        setup.compute(setup.batch(chosen[step % len(chosen)])).backward()  # type: ignore[no-untyped-call]
        descent.step()
    found.append(_evaluate(setup, told))
    return min((loss for loss in found if math.isfinite(loss)), default=None)


def _told(setup: TrainingSetup, chosen: list[int], constants: int) -> list[int]:
    """Batches that tell the loss: others, if there are fewer labels than constants.

    Such constants fit their labels one by one, and no others.
    """
    batches = [setup.batch(i) for i in chosen]
    labels = sum(count_of(batch) for batch in batches)
    pairs = all(isinstance(b, (tuple, list)) and len(b) == 2 for b in batches)
    if labels >= constants or not pairs:
        return chosen
    others = [i for i in range(len(setup.batches)) if i not in chosen]
    return others[: len(chosen)] or chosen


def _evaluate(setup: TrainingSetup, chosen: list[int]) -> float:
    with torch.no_grad():
        return median([float(setup.compute(setup.batch(i))) for i in chosen])


def _newton(setup: TrainingSetup, chosen: list[int], values: list[Tensor]) -> None:
    """One Newton step per feature, with the curvature from two gradients."""
    slopes = []
    for level in (0.0, 1.0):
        for value in values:
            value.data.fill_(level)
            value.grad = None
        for index in chosen:
            setup.compute(setup.batch(index)).backward()  # type: ignore[no-untyped-call]
        slopes.append([torch.zeros(()) if v.grad is None else v.grad for v in values])
    for value, at_zero, at_one in zip(values, *slopes, strict=True):
        curvature = at_one - at_zero
        bent = curvature > STRAIGHT * (1 + at_zero.abs())
        step = torch.where(bent, -at_zero / torch.where(bent, curvature, 1.0), 0.0)
        value.data.copy_(step.expand_as(value))
