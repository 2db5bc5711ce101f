import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "wrong_axis"
ALSO_OK = set()
SOURCE = "https://github.com/Exorust/TorchLeet/issues/5"
FIX = "batch_first=True"


class Net(nn.Module):
    def __init__(self, batch_first):
        super().__init__()
        self.table = nn.Embedding(12, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=batch_first)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 12)

    def forward(self, ids):
        return self.head(self.body(self.table(ids))[:, 0])


def _build(good):
    torch.manual_seed(508)
    batches = []
    for _ in range(100):
        ids = torch.randint(0, 12, (48, 6))
        batches.append((ids, ids[:, 1:].max(1).values))
    model = Net(good)
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
