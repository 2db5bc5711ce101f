"""The monitor in a callback of keras on torch, and what diagnose and audit say."""

import keras
import pytest
import torch
from conftest import CLIP
from torch import nn
from torch.nn import functional as F

from gradlib import GradientMonitor, audit, diagnose, watch


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    net = [layers.Input((6,)), layers.Dense(8, activation="tanh"), layers.Dense(3)]
    model = keras.Sequential(net)
    model.compile(
        keras.optimizers.SGD(0.1, global_clipnorm=CLIP),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


@pytest.fixture
def norms(model):
    """Norms of the gradients that keras hands to its optimizer, which clips them."""
    found, apply = [], model.optimizer.apply

    def noted(gradients, variables):
        found.append(float(nn.utils.get_total_norm(gradients)))
        return apply(gradients, variables)

    model.optimizer.apply = noted
    return found


def train(model, x, y):
    # example
    class Watched(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs):
            monitor.log(mean_loss=logs["loss"])  # keras tells the epoch's mean so far

    with GradientMonitor(model) as monitor:
        model.fit(x, y, batch_size=4, callbacks=[Watched()])
    # end
    return monitor


@pytest.mark.tool("GradientMonitor", "six rows equal its norm before clipping")
def test_six_rows_equal_the_norms_before_clipping(model, samples, check_rows, capsys):
    x, y = samples
    history = train(model, x.numpy(), y.numpy()).history
    check_rows(history)
    assert len(history.recorded("mean_loss")[0]) == 6
    assert len(history.layers("gradient_norm")) == 4


@pytest.mark.tool("watch, diagnose, audit", "refuse its own optimizer and layers")
def test_its_optimizer_is_not_torchs(model, batches):
    with pytest.raises(TypeError, match=r"expected a torch.optim.Optimizer, got .*SGD"):
        watch(model, model.optimizer)
    with pytest.raises(TypeError, match=r"expected a torch.optim.Optimizer, got .*SGD"):
        diagnose(model, model.optimizer, batches, loss_fn=F.cross_entropy)
    with pytest.raises(ValueError, match="at least one linear or convolutional layer"):
        audit(model)


@pytest.mark.tool("diagnose", "names the cause")
@pytest.mark.parametrize(("lr", "cause"), [(0.5, "healthy"), (100.0, "lr_too_high")])
def test_a_diagnosis_with_an_optimizer_of_torch(model, batches, lr, cause):
    sgd = torch.optim.SGD(model.parameters(), lr=lr)
    report = diagnose(model, sgd, list(batches) * 8, loss_fn=F.cross_entropy)
    assert report.cause == cause
