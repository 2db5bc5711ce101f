import torch
from torch import nn

CAUSE = "objective_out_of_reach"
ALSO_OK = {"loss_terms_unbalanced"}
SOURCE = "https://github.com/toshikwa/sac-discrete.pytorch/issues/15 (same kind)"
FIX = "a limit on the cost that the model can keep"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 1))
        self.log_weight = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.body(x)


def _build(good):
    torch.manual_seed(517)
    w = torch.randn(8, 1) / 3
    batches = []
    for _ in range(100):
        x = torch.randn(64, 8)
        batches.append((x, torch.tanh(x @ w) + 1.5))
    limit = 4.0 if good else 0.02
    model = Net()
    opt = torch.optim.Adam(
        [
            {"params": model.body.parameters(), "lr": 3e-3},
            {"params": [model.log_weight], "lr": 0.1},
        ]
    )

    def loss(model, batch):
        out = model(batch[0])
        cost = out.pow(2).mean()
        weight = model.log_weight.exp()
        fit = (out - batch[1]).pow(2).mean()
        return fit + weight.detach() * cost - weight * (cost.detach() - limit)

    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
