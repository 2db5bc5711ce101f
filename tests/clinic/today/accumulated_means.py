import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "mean_of_means"
ALSO_OK = set()
SOURCE = "https://github.com/meta-pytorch/torchtune/pull/1875"
FIX = "sum all losses of the four micro-batches and divide by all their tokens"


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.rnn = nn.Embedding(30, 32), nn.GRU(32, 48, batch_first=True)
        self.head = nn.Linear(48, 6)

    def forward(self, ids):
        return self.head(self.rnn(self.table(ids))[0])


def _build(good):
    torch.manual_seed(505)
    batches = []
    for _ in range(60):
        parts = []
        for longest in (3, 20, 5, 12):
            ids = torch.randint(0, 30, (8, 20))
            tags = (ids + ids.roll(1, 1)) % 6
            length = torch.randint(2, longest + 1, (8, 1))
            parts.append((ids, torch.where(torch.arange(20) < length, tags, -100)))
        batches.append(parts)
    model = Tagger()
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)

    def step(parts):
        opt.zero_grad()
        count = sum(int((tags != -100).sum()) for _, tags in parts)
        total = 0.0
        for ids, tags in parts:
            out = model(ids).transpose(1, 2)
            if good:
                loss = F.cross_entropy(out, tags, reduction="sum") / count
            else:
                loss = F.cross_entropy(out, tags) / len(parts)
            loss.backward()
            total += float(loss)
        opt.step()
        return total

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
