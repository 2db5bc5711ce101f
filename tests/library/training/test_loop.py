"""What an error of a model or a loss tells, wherever it comes from."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from gradlib.data import batches
from gradlib.errors import explained
from gradlib.initialization import audit, lsuv_
from gradlib.models import deep_mlp
from gradlib.sweep import sweep
from gradlib.training import accuracy, fit, lr_range_test

LABELS = torch.arange(6) % 3
build = partial(deep_mlp, 3, 8, in_features=4, out_features=3)


def trained(x: Tensor, y: Tensor) -> object:
    return fit(build(), [(x, y)], lr=0.1)


def swept(x: Tensor, y: Tensor) -> object:
    return sweep(build, [(x, y)], lrs=[0.1])


@pytest.mark.parametrize(
    "run",
    [
        trained,
        swept,
        lambda x, y: lr_range_test(build(), batches(x, y, 6)),
        lambda x, y: accuracy(build(), x, y),
        lambda x, y: audit(build(), x),
        lambda x, y: lsuv_(build(), x),
    ],
)
def test_inputs_of_a_wrong_shape(run: Callable[[Tensor, Tensor], object]) -> None:
    with pytest.raises(RuntimeError) as caught:
        run(torch.ones(6, 5), LABELS)
    (note,) = caught.value.__notes__
    assert note.startswith("model: got inputs of shape (6, 5) and torch.float32. Check")


@pytest.mark.parametrize("run", [trained, swept])
def test_labels_of_a_wrong_type(run: Callable[[Tensor, Tensor], object]) -> None:
    with pytest.raises(RuntimeError) as caught:
        run(torch.ones(6, 4), LABELS.float())
    (note,) = caught.value.__notes__
    assert note.startswith("loss_fn: got outputs of shape (6, 3) and torch.float32 and")
    assert "targets of shape (6,) and torch.float32. " in note
    assert note.endswith("labels of classes are torch.int64.")


def test_labels_out_of_range() -> None:
    with pytest.raises(IndexError) as caught:
        trained(torch.ones(6, 4), LABELS + 7)
    assert "outputs of shape (6, 3)" in caught.value.__notes__[0]


def test_other_things_are_told_by_their_type() -> None:
    with pytest.raises(AttributeError) as caught, explained("model", inputs=[1]):
        nn.Flatten()([1])
    assert "model: got inputs of type list. " in caught.value.__notes__[0]
