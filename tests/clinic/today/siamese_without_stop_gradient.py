import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "representation_collapse"
ALSO_OK = set()
SOURCE = "https://github.com/PatrickHua/SimSiam/issues/39"
FIX = "detach the target side"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, x):
        return F.normalize(self.body(x), dim=-1)


def _build(good):
    torch.manual_seed(507)
    batches = []
    for _ in range(100):
        x = torch.randn(64, 16)
        noise = 0.3 * torch.randn(2, 64, 16)
        batches.append((x + noise[0], x + noise[1]))

    def loss(model, batch):
        a, b = model(batch[0]), model(batch[1])
        near = (a - b).pow(2).sum(-1).mean()
        if good:
            far = torch.pdist(a).pow(2).mul(-2).exp().mean().log()
            return near + far
        return near

    model = Net()
    opt = torch.optim.Adam(model.parameters(), lr=3e-2)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
