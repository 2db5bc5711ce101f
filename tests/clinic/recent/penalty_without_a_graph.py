"""The slope of the critic is computed without a graph, so its penalty is a mere number.
Nothing holds the critic, and its loss falls without end."""

import torch
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = {"objective_out_of_reach"}
SOURCE = "https://github.com/ooples/AiDotNet/issues/1844"
FIX = "create a graph of the slope (create_graph=True)"


def _build(good):
    torch.manual_seed(2123)
    shift = torch.randn(10)
    batches = []
    for _ in range(200):
        fake = torch.randn(64, 10)
        batches.append((shift + 0.8 * torch.randn(64, 10), fake, torch.rand(64, 1)))

    def loss(model, batch):
        real, fake, part = batch
        between = (part * real + (1 - part) * fake).requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(
                model(between).sum(), between, create_graph=good
            )
        penalty = (slope.norm(dim=1) - 1).square().mean()
        return model(fake).mean() - model(real).mean() + 10 * penalty

    model = nn.Sequential(
        nn.Linear(10, 64),
        nn.LeakyReLU(0.2),
        nn.Linear(64, 64),
        nn.LeakyReLU(0.2),
        nn.Linear(64, 1),
    )
    opt = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.5, 0.9))
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
