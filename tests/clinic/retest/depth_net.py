"""A schedule was added to the training of a depth network, and its step took the
place of the step of the optimizer. The gradients are there at every update, but no
weight moves and the loss does not come down."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "optimizer_misconfigured"
ALSO_OK = set()
SOURCE = "https://github.com/ClementPinard/SfmLearner-Pytorch/issues/5"
FIX = "call optimizer.step() at every update, with or without a scheduler"


class DispNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 24, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.up = nn.Sequential(
            nn.Conv2d(24, 16, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2)
        )
        self.predict = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x):
        return self.predict(self.up(self.down(x)))[:, 0]


def _build(always):
    torch.manual_seed(4105)
    batches = []
    for _ in range(100):
        depth = F.interpolate(torch.randn(12, 1, 4, 4), size=16, mode="bilinear")
        image = (
            torch.cat([depth, depth.tanh(), -depth], 1)
            + torch.randn(12, 3, 16, 16) * 0.3
        )
        batches.append((image, depth[:, 0]))
    model = DispNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=40, gamma=0.5)

    def step(batch):
        image, depth = batch
        optimizer.zero_grad()
        loss = F.l1_loss(model(image), depth)
        loss.backward()
        if always or scheduler is None:
            optimizer.step()
        if scheduler is not None:
            scheduler.step()
        return loss

    return dict(model=model, step=step, optimizer=optimizer, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
