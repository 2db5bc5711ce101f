import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "init_too_large"
ALSO_OK = set()
SOURCE = "https://github.com/pytorch/pytorch/issues/3121"
FIX = "N(0, 1) is too wide for a tied embedding: std 0.05"


class Tied(nn.Module):
    def __init__(self, std):
        super().__init__()
        self.emb = nn.Embedding(50, 256)
        nn.init.normal_(self.emb.weight, std=std)
        self.mix = nn.Linear(256, 256)

    def forward(self, x):
        h = self.emb(x) + self.mix(self.emb(x).roll(1, 1))
        return h @ self.emb.weight.t()


def loss_fn(out, y):
    return F.cross_entropy(out.flatten(0, 1), y.flatten())


def _build(good):
    torch.manual_seed(3)
    jump = torch.randperm(50)
    batches = []
    for _ in range(60):
        rows = [torch.randint(0, 50, (16, 1))]
        for _ in range(12):
            rows.append(jump[rows[-1]])
        seq = torch.cat(rows, 1)
        batches.append((seq[:, :-1], seq[:, 1:]))
    model = Tied(0.05 if good else 1.0)
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=loss_fn, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
