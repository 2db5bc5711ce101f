import torch
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = set()
SOURCE = "https://github.com/pytorch/pytorch/issues/61410"
FIX = "torch.stack keeps the graph, torch.tensor does not"


class Spline(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.a, self.b = (
            nn.Parameter(torch.tensor(0.3)),
            nn.Parameter(torch.tensor(-0.2)),
        )
        self.out = nn.Linear(2, 1)
        self.good = good

    def forward(self, x):
        p = (
            torch.stack([self.a, self.b])
            if self.good
            else torch.tensor([self.a.item(), self.b.item()])
        )
        return self.out(torch.tanh(x + p))


def _build(good):
    torch.manual_seed(28)
    batches = []
    for _ in range(60):
        x = torch.randn(32, 2)
        batches.append((x, torch.tanh(x + 1).sum(1, keepdim=True)))
    model = Spline(good)
    opt = torch.optim.Adam(model.parameters(), lr=2e-2)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
