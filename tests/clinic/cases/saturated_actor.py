import torch
from torch import nn

CAUSE = "saturated_activation"
ALSO_OK = {"init_too_large"}
SOURCE = "https://github.com/floodsung/DDPG/issues/6"
FIX = "draw the last layer from U(-0.003, 0.003), so that tanh starts unsaturated"


def _build(good):
    torch.manual_seed(6)
    w = torch.randn(8, 2) / 3
    batches = []
    for _ in range(80):
        x = torch.randn(64, 8)
        batches.append((x, 0.8 * torch.tanh(x @ w)))
    model = nn.Sequential(
        nn.Linear(8, 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 2),
        nn.Tanh(),
    )
    with torch.no_grad():
        model[4].bias.zero_()
        model[4].weight.uniform_(-0.003, 0.003) if good else model[
            4
        ].weight.normal_().abs_().mul_(8)
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
