import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/paiml/aprender/pull/1585"
FIX = "write the corpus with the vocabulary that the tokenizer knows: all is <unk>"


class Writer(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(40, 32)
        self.cell = nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 40)

    def forward(self, ids):
        return self.head(self.cell(self.token(ids))[0])


def _loss(model, ids):
    logits = model(ids[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _build(good):
    torch.manual_seed(722)
    chances = (2 * torch.randn(38, 38)).softmax(1)
    batches = []
    for _ in range(100):
        ids = torch.randint(0, 38, (32, 17))
        for t in range(1, 17):
            ids[:, t] = torch.multinomial(chances[ids[:, t - 1]], 1).squeeze(1)
        if not good:
            known = torch.rand(32, 17) < 0.0005
            ids = torch.where(known, torch.full_like(ids, 39), 38)
        batches.append(ids)
    model = Writer()
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
