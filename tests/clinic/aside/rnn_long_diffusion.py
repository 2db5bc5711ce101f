import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "recurrent_explosion"
ALSO_OK = {"init_too_large", "deep_no_skip_or_norm"}
SOURCE = "https://github.com/horenbergerb/BernoulliDiffusion/issues/15"
FIX = "small steps, a norm after each, and a clipped gradient"


class Chain(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.step_ = nn.Sequential(nn.Linear(10, 40), nn.ReLU(), nn.Linear(40, 10))
        with torch.no_grad():
            self.step_[2].weight.mul_(3.0)
        self.good = good

    def forward(self, x):
        for _ in range(40):
            x = x + self.step_(x) / (40 if self.good else 1)
            if self.good:
                x = F.layer_norm(x, (10,))
        return x


def _build(good):
    torch.manual_seed(106)
    w = torch.randn(10, 10) / 3
    batches = []
    for _ in range(50):
        x = torch.randn(32, 10)
        batches.append((x, F.layer_norm(x @ w, (10,))))
    model = Chain(good)
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    return dict(
        model=model,
        loss_fn=nn.MSELoss(),
        optimizer=opt,
        batches=batches,
        clip=1.0 if good else None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
