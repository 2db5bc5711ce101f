import torch
from torch import nn

CAUSE = "saturated_activation"
ALSO_OK = {"init_too_large"}
SOURCE = "written for this test, after common reports"
FIX = "smaller first weights: the tanh units start at their limits"


def _build(good):
    torch.manual_seed(104)
    batches = []
    for _ in range(60):
        x = torch.randn(32, 20)
        batches.append((x, (x[:, :2].sum(1, keepdim=True) / 2).sin()))
    model = nn.Sequential(
        nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
    )
    if not good:
        with torch.no_grad():
            model[0].weight.mul_(40)
            model[2].weight.mul_(40)
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
