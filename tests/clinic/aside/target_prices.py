import torch
from torch import nn

CAUSE = "unscaled_target"
ALSO_OK = {"unnormalized_input", "lr_too_high"}
SOURCE = "https://stackoverflow.com/questions/47932589"
FIX = "scale the prices to unit variance"


def _build(good):
    torch.manual_seed(108)
    v = torch.randn(8, 1) / 3
    batches = []
    for _ in range(60):
        x = torch.randn(32, 8)
        y = x @ v + 0.3 * (x[:, :1] * x[:, 1:2])
        batches.append((x, y if good else 2.2e5 + 9e4 * y))
    model = nn.Sequential(
        nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1)
    )
    opt = torch.optim.SGD(model.parameters(), lr=0.02)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
