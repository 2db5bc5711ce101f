"""The fake is detached before the critic judges it, also when its maker should learn.
The critic's judgement never arrives; only a side term on one number still does."""

import torch
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = set()
SOURCE = "https://github.com/nikhilsinghmus/image2reverb/issues/37"
FIX = "detach the fake for the critic's own loss only"


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.make = nn.Sequential(nn.Linear(6, 32), nn.LeakyReLU(0.2), nn.Linear(32, 8))
        self.judge = nn.Sequential(
            nn.Linear(8, 48), nn.LeakyReLU(0.2), nn.Linear(48, 1)
        )

    def forward(self, noise):
        return self.make(noise)


def _build(good):
    torch.manual_seed(2111)
    middle = 2 * torch.randn(8)
    batches = []
    for _ in range(200):
        batches.append((middle + 0.7 * torch.randn(64, 8), torch.randn(64, 6)))

    def loss(model, batch):
        real, noise = batch
        fake = model(noise)
        truth, lie = model.judge(real), model.judge(fake.detach())
        judge = (truth - 1).square().mean() + lie.square().mean()
        fixed = {name: p.detach() for name, p in model.judge.named_parameters()}
        shown = fake if good else fake.detach()
        seen = torch.func.functional_call(model.judge, fixed, (shown,))
        side = (fake[:, 0].mean() - real[:, 0].mean()).abs()
        return judge + (seen - 1).square().mean() + 0.1 * side

    model = Both()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3, betas=(0.5, 0.99))
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
