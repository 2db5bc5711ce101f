import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "wrong_axis"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/cmu-l3/anlp-fall2025-code/issues/1"
FIX = "torch.arange(x.size(1)).unsqueeze(0) for ids of shape (batch, time)"


class Reader(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.token = nn.Embedding(12, 32)
        self.place = nn.Embedding(64, 32)
        self.attend = nn.MultiheadAttention(32, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, 2)

    def forward(self, ids):
        if self.good:
            place = torch.arange(ids.size(1)).unsqueeze(0)
        else:
            place = torch.arange(ids.size(0)).unsqueeze(1)
        h = self.token(ids) + self.place(place)
        h = h + self.attend(h, h, h, need_weights=False)[0]
        h = h + self.mlp(h)
        return self.head(h.mean(1))


def _build(good):
    torch.manual_seed(706)
    batches = []
    for _ in range(120):
        ids = torch.randint(2, 12, (48, 8))
        spots = torch.stack([torch.randperm(8)[:2] for _ in range(48)])
        rows = torch.arange(48)
        ids[rows, spots[:, 0]], ids[rows, spots[:, 1]] = 0, 1
        batches.append((ids, (spots[:, 0] < spots[:, 1]).long()))
    model = Reader(good)
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
