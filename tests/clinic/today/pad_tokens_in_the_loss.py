import torch
from torch import nn

CAUSE = "padding_in_loss"
ALSO_OK = set()
SOURCE = "https://github.com/DaoyuanLi2816/Molecule-Generator/pull/20"
FIX = "ignore_index=0"


class Lm(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 32, padding_idx=0)
        self.rnn, self.head = nn.GRU(32, 48, batch_first=True), nn.Linear(48, 20)

    def forward(self, ids):
        return self.head(self.rnn(self.table(ids))[0])


def _build(good):
    torch.manual_seed(504)
    following = 1 + torch.stack([torch.randperm(19)[:2] for _ in range(20)])
    batches = []
    for _ in range(80):
        ids = [torch.randint(1, 20, (16,))]
        for _ in range(24):
            ids.append(following[ids[-1], torch.randint(0, 2, (16,))])
        ids = torch.stack(ids, 1)
        length = torch.randint(4, 20, (16, 1))
        ids = torch.where(torch.arange(25) < length, ids, 0)
        batches.append((ids[:, :-1], ids[:, 1:]))
    loss = nn.CrossEntropyLoss(ignore_index=0 if good else -100)
    model = Lm()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(
        model=model,
        loss_fn=lambda out, y: loss(out.flatten(0, 1), y.flatten()),
        optimizer=opt,
        batches=batches,
        clip=1.0,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
