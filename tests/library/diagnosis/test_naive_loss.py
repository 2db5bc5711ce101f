"""The loss of the best constant, for updates that can only be watched."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gradlib.diagnosis.evidence.function_calls import LossCall
from gradlib.diagnosis.evidence.naive_loss import watched_naive_loss

Targets = Callable[[torch.Generator], Tensor]


def seen(
    function: str, targets: Targets, *, outputs: int = 1, calls: int = 1
) -> tuple[list[float], dict[int, list[LossCall]]]:
    """Losses of eight updates, and what their loss functions were given."""
    generator = torch.Generator().manual_seed(0)
    losses, found = [], {}
    for step in range(8):
        found[step] = []
        for _ in range(calls):
            target = targets(generator)
            shape = (len(target), outputs)
            output = torch.randn(shape, generator=generator)
            output = output if function == "cross_entropy" else output.expand_as(target)
            value = float(getattr(F, function)(output, target))
            found[step].append(LossCall(function, output, target, value=value))
        losses.append(sum(call.value for call in found[step]) / calls)
    return losses, found


def coins(generator: torch.Generator) -> Tensor:
    return (torch.rand(500, generator=generator) < 0.2).long()


def numbers(generator: torch.Generator) -> Tensor:
    return 3 * torch.randn(500, 1, generator=generator)


@pytest.mark.parametrize("calls", [1, 3])
def test_classes_have_their_entropy(calls: int) -> None:
    losses, found = seen("cross_entropy", coins, outputs=2, calls=calls)
    entropy = -0.2 * math.log(0.2) - 0.8 * math.log(0.8)
    assert watched_naive_loss(losses, found) == pytest.approx(entropy, rel=0.05)


def test_few_samples_of_many_classes_show_no_lower_entropy() -> None:
    def sides(generator: torch.Generator) -> Tensor:
        return torch.randint(0, 20, (12,), generator=generator)

    losses, found = seen("cross_entropy", sides, outputs=20)
    naive = watched_naive_loss(losses, found)
    assert naive == pytest.approx(math.log(20), abs=0.1)


def test_ignored_labels_do_not_count() -> None:
    def half(generator: torch.Generator) -> Tensor:
        target = coins(generator)
        target[::2] = -100
        return target

    losses, found = seen("cross_entropy", half, outputs=2)
    entropy = -0.2 * math.log(0.2) - 0.8 * math.log(0.8)
    assert watched_naive_loss(losses, found) == pytest.approx(entropy, rel=0.07)


def test_numbers_have_their_variance() -> None:
    losses, found = seen("mse_loss", numbers)
    assert watched_naive_loss(losses, found) == pytest.approx(9.0, rel=0.1)


def test_it_is_unknown_where_something_else_is_returned() -> None:
    losses, found = seen("mse_loss", numbers)
    assert watched_naive_loss([2 * loss for loss in losses], found) is None


def test_it_is_unknown_where_the_targets_move() -> None:
    losses, found = seen("mse_loss", numbers)
    for step in range(5, 8):
        for call in found[step]:
            call.target *= 10
    assert watched_naive_loss(losses, found) is None


@pytest.mark.parametrize("change", ["shape", "function", "reduction", "few"])
def test_it_is_unknown_where_a_constant_cannot_be_told(change: str) -> None:
    losses, found = seen("mse_loss", numbers)
    for calls in found.values():
        for call in calls:
            if change == "shape":
                call.output = call.output[:, 0]
            if change == "few":
                call.output, call.target = call.output[:7], call.target[:7]
            call.function = "l1_loss" if change == "function" else "mse_loss"
            call.reduction = "sum" if change == "reduction" else "mean"
    assert watched_naive_loss(losses, found) is None
