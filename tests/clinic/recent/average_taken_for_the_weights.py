"""The checkpoint was written while the averaged weights stood in for evaluation.
The run goes on from the average, which lags far behind, with the moments of others."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "resume_state_lost"
ALSO_OK = set()
SOURCE = "https://github.com/atomistic-machine-learning/schnetpack/pull/785"
FIX = "put the weights of training back, when the checkpoint is written or read"


def _network():
    return nn.Sequential(
        nn.Linear(8, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)
    )


def _loss(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


def _first_part(batches):
    model = _network()
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
    average = [p.detach().clone() for p in model.parameters()]
    for batch in batches:
        opt.zero_grad()
        _loss(model, batch).backward()
        opt.step()
        with torch.no_grad():
            for mean, p in zip(average, model.parameters(), strict=True):
                mean.lerp_(p, 0.002)
    return model, average, opt


def _build(good):
    torch.manual_seed(2119)
    one, two = torch.randn(8, 6) / 4, torch.randn(6, 1)
    batches = []
    for _ in range(220):
        x = torch.randn(64, 8)
        batches.append((x, torch.tanh(x @ one) @ two))
    before, average, old = _first_part(batches[:120])
    model = _network()
    model.load_state_dict(before.state_dict())
    if not good:
        with torch.no_grad():
            for p, mean in zip(model.parameters(), average, strict=True):
                p.copy_(mean)
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
    opt.load_state_dict(old.state_dict())
    for group in opt.param_groups:
        group["lr"] = 1e-3
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches[120:])


def make():
    return _build(False)


def make_fixed():
    return _build(True)
