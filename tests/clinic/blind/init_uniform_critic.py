import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "init_too_large"
ALSO_OK = set()
SOURCE = "github.com/suolyer/PyTorch_BERT_Biaffine_NER/pull/3 (same kind)"
FIX = "torch's default"


def table(n, batch, features=20, classes=5, noise=0.5):
    protos = torch.randn(classes, features)
    out = []
    for _ in range(n):
        y = torch.randint(0, classes, (batch,))
        out.append((protos[y] + noise * torch.randn(batch, features), y))
    return out


class Critic(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.a, self.b, self.c, self.out = (
            nn.Linear(20, 64),
            nn.Linear(64, 64),
            nn.Linear(64, 64),
            nn.Linear(64, 1),
        )
        if not good:
            for p in self.parameters():
                nn.init.uniform_(p, -1, 1)

    def forward(self, x):
        return self.out(F.relu(self.c(F.relu(self.b(F.relu(self.a(x))))))).squeeze(1)


def _build(good):
    torch.manual_seed(104)
    w = torch.randn(20) / 20**0.5
    batches = []
    for _ in range(80):
        x = torch.randn(32, 20)
        batches.append((x, torch.tanh(x @ w)))
    model = Critic(good)
    opt = torch.optim.SGD(model.parameters(), lr=0.05)
    return dict(
        model=model,
        loss_fn=F.mse_loss,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
