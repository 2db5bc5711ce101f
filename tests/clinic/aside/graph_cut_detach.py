import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = set()
SOURCE = "https://github.com/Ugenteraan/Deep_Hierarchical_Classification/issues/6"
FIX = "no .data between encoder and head"


class Net(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh()
        )
        self.head = nn.Linear(6, 8)
        self.good = good

    def forward(self, x):
        h = self.encoder(x)
        return self.head(h if self.good else torch.Tensor(h.data))


def _build(good):
    torch.manual_seed(122)
    protos = torch.randn(8, 20)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 8, (32,))
        batches.append((protos[y] + 0.8 * torch.randn(32, 20), y))
    model = Net(good)
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
