import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test: (time, batch, feature) is torch's own order"
FIX = "nothing to fix"


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(3, 32), nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def make():
    torch.manual_seed(544)
    batches = []
    for _ in range(80):
        x = torch.randn(10, 24, 3)
        y = (x.cumsum(0)[..., :2] > 0).long()
        batches.append((x, y[..., 0] + 2 * y[..., 1]))
    model = Tagger()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(
        model=model,
        loss_fn=lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten()),
        optimizer=opt,
        batches=batches,
        clip=1.0,
    )


make_fixed = make
