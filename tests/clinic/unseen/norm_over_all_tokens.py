import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "wrong_axis"
ALSO_OK = {"target_leak"}
SOURCE = "https://github.com/Qualcomm-AI-research/geometric-algebra-transformer/pull/8"
FIX = "F.layer_norm(x, x.shape[-1:]), not x.shape[1:]"


class Writer(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.token = nn.Embedding(16, 32)
        self.cell = nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 16)

    def forward(self, ids):
        h = self.token(ids)
        h = F.layer_norm(h, h.shape[-1:] if self.good else h.shape[1:])
        return self.head(self.cell(h)[0])


def _loss(model, ids):
    logits = model(ids[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _build(good):
    torch.manual_seed(805)
    chances = (2 * torch.randn(16, 16)).softmax(1)
    batches = []
    for _ in range(100):
        ids = torch.randint(0, 16, (32, 9))
        for t in range(1, 9):
            ids[:, t] = torch.multinomial(chances[ids[:, t - 1]], 1).squeeze(1)
        batches.append(ids)
    model = Writer(good)
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
