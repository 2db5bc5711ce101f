"""A first lesson in autograd: w and b are moved along their gradients, which nobody
sets back to zero. The line swings around the points, and the loss goes down and up
again with any rate."""

import torch
from torch import nn

CAUSE = "missing_zero_grad"
ALSO_OK = set()
SOURCE = "https://github.com/greebear/pytorch-learning/issues/1"
FIX = "w.grad.zero_() and b.grad.zero_() after each update"


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(1))
        self.b = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.w * x + self.b


def _build(clear):
    torch.manual_seed(4102)
    x = torch.linspace(-1, 2, 100)
    y = 3 * x + 2 + torch.randn(100) * 0.2
    model = Line()
    opt = torch.optim.SGD(model.parameters(), lr=0.02)

    def step(batch):
        data, target = batch
        loss = (model(data) - target).pow(2).mean()
        loss.backward()
        opt.step()
        if clear:
            model.w.grad.zero_()
            model.b.grad.zero_()
        return loss

    return dict(model=model, step=step, optimizer=opt, batches=[(x, y)] * 120)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
