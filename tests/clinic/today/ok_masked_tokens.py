import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test: a masked language model looks both ways"
FIX = "nothing to fix"


class Mlm(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.place = nn.Embedding(21, 32), nn.Embedding(12, 32)
        self.block = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True)
        self.head = nn.Linear(32, 20)

    def forward(self, ids):
        return self.head(self.block(self.table(ids) + self.place.weight)).transpose(
            1, 2
        )


def make():
    torch.manual_seed(543)
    batches = []
    for _ in range(100):
        start, step = torch.randint(0, 20, (32, 1)), torch.randint(1, 3, (32, 1))
        ids = (start + step * torch.arange(12)) % 20
        hidden = torch.rand(32, 12) < 0.15
        labels = torch.where(hidden, ids, -100)
        batches.append((torch.where(hidden, 20, ids), labels))
    model = Mlm()
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


make_fixed = make
