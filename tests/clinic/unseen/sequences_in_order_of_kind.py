import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unshuffled_data"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/ant-research/EasyTemporalPointProcess/issues/54"
FIX = "shuffle the training set"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRU(3, 24, batch_first=True)
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        return self.head(self.cell(x)[1][0])


def _build(good):
    torch.manual_seed(809)
    y = torch.arange(5).repeat_interleave(320)
    means = torch.randn(5, 3)
    x = means[y][:, None] + 1.5 * torch.randn(1600, 8, 3)
    if good:
        order = torch.randperm(1600)
        x, y = x[order], y[order]
    batches = list(zip(x.split(20), y.split(20), strict=True))
    model = Net()
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
