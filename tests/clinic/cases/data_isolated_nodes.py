import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = set()
SOURCE = "https://github.com/circleAhn/TESLA-tf/issues/1"
FIX = "guard the division: a node without neighbors has degree 0"


class GNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 32), nn.Linear(32, 3)

    def forward(self, graph):
        x, mixing = graph
        h = torch.relu(self.first(mixing @ x))
        return self.second(mixing @ h).flatten(0, 1)


def _build(good):
    torch.manual_seed(110)
    center = 2 * torch.randn(3, 6)
    batches = []
    for i in range(60):
        y = torch.randint(0, 3, (4, 20))
        same = (y[:, :, None] == y[:, None, :]).float()
        links = (torch.rand(4, 20, 20) < 0.1 + 0.4 * same).float()
        if i in (11, 40):
            links[1, 7] = 0
        degree = links.sum(-1, keepdim=True)
        mixing = links / (degree.clamp(min=1) if good else degree)
        batches.append(((center[y] + torch.randn(4, 20, 6), mixing), y.flatten()))
    model = GNN()
    opt = torch.optim.Adam(model.parameters(), lr=0.01)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
