import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "lr_too_high"
ALSO_OK = {"saturated_activation"}
SOURCE = "stackoverflow.com/questions/37624102 (same kind)"
FIX = "lr 0.003"


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(8, 32, batch_first=True)
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.gru(x)[0][:, -1])


def _build(good):
    torch.manual_seed(102)
    protos = torch.randn(4, 12, 8)
    batches = []
    for _ in range(80):
        y = torch.randint(0, 4, (32,))
        batches.append((protos[y] + torch.randn(32, 12, 8), y))
    model = Reader()
    opt = torch.optim.Adam(model.parameters(), lr=0.005 if good else 1.0)
    return dict(
        model=model,
        loss_fn=F.cross_entropy,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
