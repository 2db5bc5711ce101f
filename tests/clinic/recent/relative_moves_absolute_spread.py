"""Moves are made relative to the state, but scaled by mean and spread of absolute ones.
All targets lie within a hundredth of one number, and the policy learns that number."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unscaled_target"
ALSO_OK = set()
SOURCE = "https://github.com/huggingface/lerobot/pull/4700"
FIX = "compute mean and spread from the relative moves"


def _loss(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


def _build(good):
    torch.manual_seed(2115)
    turn, aim = torch.randn(6, 6) / 2, torch.randn(6, 6)
    where = 2 + 0.8 * torch.randn(9600, 6)
    seen = torch.randn(9600, 6)
    relative = 0.02 * torch.sin(seen @ turn) @ aim / 2
    absolute = where + relative
    kept = relative if good else absolute
    target = (relative - kept.mean(0)) / kept.std(0)
    state = torch.cat([(where - 2) / 0.8, seen], 1)
    batches = list(zip(state.split(80), target.split(80), strict=True))
    model = nn.Sequential(
        nn.Linear(12, 96), nn.GELU(), nn.Linear(96, 96), nn.GELU(), nn.Linear(96, 6)
    )
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
