"""The monitor in a callback of fastai, and what diagnose says."""

from functools import partial

import pytest
import torch
from conftest import CLIP
from fastai.callback.core import Callback
from fastai.callback.training import GradientAccumulation, GradientClip
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import SGD, OptimWrapper
from torch.nn import functional as F

from gradlib import GradientMonitor, diagnose, watch

TORCH_SGD = partial(OptimWrapper, opt=torch.optim.SGD)


def learner(model, batches, opt_func, **keywords):
    loaders = DataLoaders(batches, batches, device="cpu")
    settings = {"loss_func": F.cross_entropy, "opt_func": opt_func, "lr": 0.1}
    return Learner(loaders, model, **settings, **keywords)


def train(learn):
    # example
    class Watched(Callback):
        order = GradientClip.order - 0.5  # after accumulation, before clipping

        def before_step(self):
            monitor.log(self.loss)

    with GradientMonitor(learn.model) as monitor, learn.no_bar():
        learn.fit(1, cbs=[Watched()])
    # end
    return monitor


@pytest.mark.tool(
    "GradientMonitor", "rows equal its norm before clipping, also of accumulated steps"
)
@pytest.mark.parametrize("opt_func", [SGD, TORCH_SGD], ids=["its own", "torch's"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_rows_equal_the_norms_before_clipping(
    model, batches, norms, opt_func, accumulate
):
    callbacks = [GradientClip(CLIP), GradientAccumulation(4 * accumulate)]
    learn = learner(model, batches, opt_func, cbs=callbacks)
    history = train(learn).history
    if accumulate == 2:
        history = train(learn).history
        assert len(norms) == 6
        norms = norms[3:]
    assert history["gradient_norm"] == pytest.approx(norms, rel=1e-5)
    assert len(norms) == 6 // accumulate
    assert min(norms) > 10 * CLIP
    assert len(history.recorded("loss")[0]) == len(norms)


@pytest.mark.tool("watch, diagnose", "refuse its own optimizer")
def test_its_own_optimizer_is_not_torchs(model, batches):
    learn = learner(model, batches, SGD)
    learn.create_opt()
    for function in (
        watch,
        partial(diagnose, batches=batches, loss_fn=F.cross_entropy),
    ):
        with pytest.raises(TypeError, match=r"expected a torch.optim.Optimizer, got"):
            function(learn.model, learn.opt)


@pytest.mark.tool("diagnose", "names the cause")
@pytest.mark.parametrize(("lr", "cause"), [(0.5, "healthy"), (100.0, "lr_too_high")])
def test_a_diagnosis_with_an_optimizer_of_torch(model, batches, lr, cause):
    learn = learner(model, list(batches) * 8, TORCH_SGD)
    learn.create_opt()
    learn.opt.set_hypers(lr=lr)
    report = diagnose(learn.model, learn.opt, learn.dls.train, loss_fn=learn.loss_func)
    assert report.cause == cause
