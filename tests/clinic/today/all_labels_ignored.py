import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_masked"
ALSO_OK = {"bad_data", "loss_numerics"}
SOURCE = "written for this test, after common reports (chat template)"
FIX = "labels of the answer must stay"


class Lm(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.rnn = nn.Embedding(20, 32), nn.GRU(32, 48, batch_first=True)
        self.head = nn.Linear(48, 20)

    def forward(self, ids):
        return self.head(self.rnn(self.table(ids))[0]).transpose(1, 2)


def _build(good):
    torch.manual_seed(527)
    following = torch.stack([torch.randperm(20)[:2] for _ in range(20)])
    batches = []
    for _ in range(60):
        ids = [torch.randint(0, 20, (16,))]
        for _ in range(12):
            ids.append(following[ids[-1], torch.randint(0, 2, (16,))])
        ids = torch.stack(ids, 1)
        labels = ids[:, 1:].clone()
        labels[:, : 4 if good else 12] = -100
        batches.append((ids[:, :-1], labels))
    model = Lm()
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
