import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "sum_reduction"
ALSO_OK = set()
SOURCE = "stats.stackexchange.com/questions/594738 (same kind)"
FIX = "reduction='mean'"


class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.lstm, self.out = (
            nn.Embedding(20, 24),
            nn.LSTM(24, 48, batch_first=True),
            nn.Linear(48, 20),
        )

    def forward(self, x):
        return self.out(self.lstm(self.emb(x))[0])


def _build(good):
    torch.manual_seed(117)
    step = torch.randperm(20)

    def loss_fn(out, y):
        return F.cross_entropy(
            out.flatten(0, 1), y.flatten(), reduction="mean" if good else "sum"
        )

    batches = []
    for _ in range(60):
        x = torch.randint(0, 20, (32, 16))
        batches.append((x, step[x]))
    model = LM()
    opt = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    return dict(
        model=model,
        loss_fn=loss_fn,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
