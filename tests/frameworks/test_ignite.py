"""The watcher of a training with ignite."""

import pytest
import torch
from conftest import CLIP
from ignite.engine import Engine, Events
from torch import nn
from torch.nn import functional as F

from gradlib import diagnose, watch


def update_of(model, optimizer):
    def update(engine, batch):
        x, y = batch
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return loss.item()

    return update


def train(model, optimizer, trainer, batches):
    # example
    with watch(model, optimizer) as watcher:

        @trainer.on(Events.ITERATION_COMPLETED)
        def tell(engine):
            watcher.log_last(loss=engine.state.output)

        trainer.run(batches)
    # end
    return watcher


@pytest.mark.tool("watch", "six rows equal its norm before clipping")
def test_six_rows_equal_the_norms_before_clipping(model, batches, check_rows):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Engine(update_of(model, optimizer))
    history = train(model, optimizer, trainer, batches).history
    check_rows(history)
    assert len(history.recorded("loss")[0]) == 6


@pytest.mark.tool("diagnose", "names the cause")
@pytest.mark.parametrize(("lr", "cause"), [(30.0, "healthy"), (1e4, "lr_too_high")])
def test_a_diagnosis_of_its_update(model, batches, lr, cause):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    update = update_of(model, optimizer)
    report = diagnose(
        model, optimizer, list(batches) * 8, step=lambda b: update(None, b), clip=CLIP
    )
    assert report.cause == cause
