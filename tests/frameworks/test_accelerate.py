"""The watcher of a loop of accelerate, as the library's page shows it."""

import pytest
import torch
from accelerate import Accelerator
from conftest import CLIP
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from gradlib import diagnose, watch


def train(accelerator, model, optimizer, data):
    # example
    with watch(model, optimizer) as watcher:
        for inputs, targets in data:
            with accelerator.accumulate(model):
                accelerator.backward(F.cross_entropy(model(inputs), targets))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), CLIP)
                optimizer.step()
                optimizer.zero_grad()
    # end
    return watcher


@pytest.mark.tool("watch", "six rows equal its norm before clipping")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_six_rows_equal_accelerates_norms_before_clipping(accumulate, norms):
    torch.manual_seed(0)
    x = torch.randn(4 * 6 * accumulate, 6)
    data = DataLoader(TensorDataset(x, x[:, :3].argmax(dim=1)), batch_size=4)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer, data = accelerator.prepare(model, optimizer, data)
    watcher = train(accelerator, model, optimizer, data)
    assert watcher.history["gradient_norm"] == pytest.approx(norms, rel=1e-5)
    assert len(norms) == 6


@pytest.mark.tool("diagnose", "names the cause")
@pytest.mark.parametrize(("lr", "cause"), [(0.5, "healthy"), (100.0, "lr_too_high")])
def test_a_diagnosis_with_what_was_prepared(model, batches, lr, cause):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    prepared = Accelerator(cpu=True).prepare(model, optimizer)
    report = diagnose(*prepared, list(batches) * 8, loss_fn=F.cross_entropy)
    assert report.cause == cause
