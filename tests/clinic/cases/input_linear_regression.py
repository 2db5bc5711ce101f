import torch
from torch import nn

CAUSE = "unnormalized_input"
ALSO_OK = {"lr_too_high"}
SOURCE = "https://mejorcodigo.com/p/45698.html"
FIX = "x in 0..100: standardize it (or a far smaller learning rate)"


def _build(good):
    torch.manual_seed(10)
    batches = []
    for _ in range(60):
        x = 100 * torch.rand(16, 1)
        y = 0.03 * x - 1 + 0.1 * torch.randn(16, 1)
        batches.append(((x - 50) / 29 if good else x, y))
    model = nn.Linear(1, 1)
    opt = torch.optim.SGD(model.parameters(), lr=0.01)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
