"""Accuracy against counting, and what it leaves behind."""

import pytest
import torch
from networks import tanh_network as network
from torch import nn

from gradlib.training import accuracy


def digits(size):
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randn(size, 6, generator=draw)
    return inputs, torch.randint(3, (size,), generator=draw)


def test_accuracy_is_the_share_of_right_answers():
    model, (x, y) = network(), digits(50)
    expected = sum(
        int(
            torch.stack(tuple(model(row))).tolist().index(max(model(row).tolist())) == t
        )
        for row, t in zip(x, y.tolist(), strict=True)
    )
    assert accuracy(model, x, y) == expected / 50
    assert accuracy(model, x, y, batch_size=7) == expected / 50


def test_accuracy_evaluates_and_leaves_no_trace():
    modes = []
    model = network(nn.BatchNorm1d(8))
    model[0].register_forward_hook(
        lambda module, *_: modes.append((module.training, torch.is_grad_enabled()))
    )
    model[1].eval()
    accuracy(model, *digits(4))
    assert modes == [(False, False)]
    assert [module.training for module in model] == [True, False, True, True]
    assert model[2].num_batches_tracked == 0


@pytest.mark.parametrize(("inputs", "targets"), [(4, 3), (0, 0)])
def test_accuracy_needs_as_many_targets_as_inputs(inputs, targets):
    with pytest.raises(ValueError, match=f"one or more, got {inputs} and {targets}"):
        accuracy(network(), torch.zeros(inputs, 6), torch.zeros(targets))


def test_accuracy_needs_a_batch_size():
    with pytest.raises(ValueError, match="batch_size: expected a whole number >= 1"):
        accuracy(network(), *digits(4), batch_size=0)


def test_accuracy_takes_one_class_an_answer():
    x, y = digits(4)
    with pytest.raises(ValueError, match=r"shape \(4,\), got \(4, 3\). Of one-hot"):
        accuracy(network(), x, nn.functional.one_hot(y, 3))
