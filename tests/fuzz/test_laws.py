"""The laws of the fuzz tests catch what breaks them."""

from collections.abc import Callable

import pytest
import torch
from kinds import network
from laws import unchanged
from test_fuzz import names
from torch import nn


def leave_hook(model: nn.Module) -> None:
    model[1].register_forward_hook(lambda *parts: None)


def leave_hook_on_tensor(model: nn.Module) -> None:
    model[0].weight.register_hook(lambda gradient: None)


def lose_gradients(model: nn.Module) -> None:
    model.zero_grad()


def change_gradient(model: nn.Module) -> None:
    model[0].weight.grad *= 2


def change_mode(model: nn.Module) -> None:
    model[1].eval()


def change_weight(model: nn.Module) -> None:
    with torch.no_grad():
        model[0].weight[0, 0] += 1


def freeze(model: nn.Module) -> None:
    model[0].weight.requires_grad_(False)


def draw(model: nn.Module) -> None:
    torch.rand(1)


def change_and_raise(model: nn.Module) -> None:
    model.zero_grad()
    raise ValueError("model: a good reason")


@pytest.mark.parametrize(
    ("misuse", "told"),
    [
        (leave_hook, "hooks are left"),
        (leave_hook_on_tensor, "hooks are left"),
        (lose_gradients, "a gradient is lost"),
        (change_gradient, "a gradient changed"),
        (change_mode, "modes changed"),
        (change_weight, "a tensor changed"),
        (freeze, "requires_grad changed"),
        (draw, "random state changed"),
        (change_and_raise, "a gradient is lost"),
    ],
)
def test_a_misuse_is_seen(misuse: Callable[[nn.Module], None], told: str) -> None:
    model = network("plain", 0, 1.0, True, False)
    with (
        pytest.raises(AssertionError, match=told),
        unchanged([{"model": [model]}], frozenset()),
    ):
        misuse(model)


def test_what_is_allowed_passes() -> None:
    model = network("plain", 0, 1.0, True, False)
    with unchanged([model], frozenset({"gradients", "weights", "random state"})):
        change_gradient(model)
        change_weight(model)
        draw(model)


def test_a_message_names_the_argument_as_a_word() -> None:
    assert names(ValueError("max_norm: expected a number > 0"), "max_norm")
    assert not names(ValueError("max_norm: expected a number > 0"), "norm")
