"""The watcher of a training with skorch."""

import pytest
import skorch.callbacks.regularization
import torch
from conftest import CLIP
from skorch import NeuralNetClassifier
from skorch.callbacks import GradientNormClipping
from torch import nn
from torch.nn import functional as F

from gradlib import diagnose, watch


@pytest.fixture
def net(model):
    return NeuralNetClassifier(
        model, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.SGD, lr=0.1,
        batch_size=4, train_split=None, verbose=0, max_epochs=1,
        callbacks=[GradientNormClipping(CLIP)],
    )  # fmt: skip


def train(net, x, y):
    # example
    net.initialize()
    with watch(net.module_, net.optimizer_) as watcher:
        net.partial_fit(x, y)
    # end
    return watcher


@pytest.mark.tool("watch", "six rows equal its norm before clipping")
def test_six_rows_equal_the_norms_before_clipping(
    net, samples, check_rows, monkeypatch
):
    noted = nn.utils.clip_grad_norm_
    monkeypatch.setattr(skorch.callbacks.regularization, "clip_grad_norm_", noted)
    history = train(net, *samples).history
    check_rows(history)


@pytest.mark.tool("diagnose", "names the cause")
@pytest.mark.parametrize(("lr", "cause"), [(0.5, "healthy"), (100.0, "lr_too_high")])
def test_a_diagnosis(net, batches, lr, cause):
    net.set_params(lr=lr).initialize()
    report = diagnose(
        net.module_, net.optimizer_, list(batches) * 8, loss_fn=F.cross_entropy
    )
    assert report.cause == cause
