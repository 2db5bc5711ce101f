"""Lion takes over the rate that suited AdamW, and moves every weight by all of it.
The loss jumps about and then grows, where a tenth of the rate would learn."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "lr_too_high"
ALSO_OK = {"optimizer_misconfigured"}
SOURCE = "https://github.com/wandb/senpai/pull/2871"
FIX = "divide the rate of AdamW by ten for Lion"


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, dict(lr=lr, betas=(0.9, 0.99)))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            slow, fast = group["betas"][1], group["betas"][0]
            for p in group["params"]:
                if p.grad is None:
                    continue
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                p.sub_(group["lr"] * (fast * mean + (1 - fast) * p.grad).sign())
                mean.lerp_(p.grad, 1 - slow)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(64)
        self.inside = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))

    def forward(self, x):
        return x + self.inside(self.norm(x))


def _loss(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


def _build(good):
    torch.manual_seed(2107)
    first, second = torch.randn(10, 8) / 3, torch.randn(8, 3) / 2
    batches = []
    for _ in range(150):
        x = torch.randn(64, 10)
        batches.append((x, torch.tanh(2 * x @ first) @ second))
    model = nn.Sequential(
        nn.Linear(10, 64), *[Block() for _ in range(4)], nn.Linear(64, 3)
    )
    opt = Lion(model.parameters(), lr=2e-3 if good else 2e-2)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
