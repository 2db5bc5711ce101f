import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "optimizer_misconfigured"
ALSO_OK = set()
SOURCE = "https://github.com/zjunlp/HVPNeT/issues/5"
FIX = "append the group of the new layers"


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()
        )
        self.fc = nn.Linear(64, 8)
        self.crf = nn.Parameter(torch.zeros(8))

    def forward(self, x):
        return self.fc(self.encoder(x)) + self.crf


def _build(good):
    torch.manual_seed(24)
    protos = torch.randn(8, 20)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 8, (32,))
        batches.append((protos[y] + 0.7 * torch.randn(32, 20), y))
    model = Tagger()
    groups = [{"params": model.encoder.parameters(), "lr": 1e-3}]
    if good:
        groups.append({"params": [*model.fc.parameters(), model.crf], "lr": 5e-3})
    opt = torch.optim.AdamW(groups)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
