import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test: nodes of a graph depend on each other on purpose"
FIX = "nothing to fix"


class Gcn(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 3)

    def forward(self, x, edges):
        for layer in (self.a, self.b):
            h = torch.relu(layer(x))
            x = h + torch.zeros_like(h).index_add(0, edges[1], h[edges[0]]) / 4
        return self.out(x)


def make():
    torch.manual_seed(542)
    protos = torch.randn(3, 8)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 3, (60,))
        same = (y[:, None] == y) & (torch.rand(60, 60) < 0.2)
        edges = same.nonzero().t()
        batches.append(((0.6 * protos[y] + torch.randn(60, 8), edges), y))
    model = Gcn()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


make_fixed = make
