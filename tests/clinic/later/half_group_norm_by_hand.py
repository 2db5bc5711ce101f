import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "fp16_overflow"
ALSO_OK = {"loss_numerics", "unnormalized_input"}
SOURCE = "https://github.com/neuroneural/brainchop-cli/pull/56"
FIX = "compute the mean of squares in float32"


class Norm(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good

    def forward(self, x):
        given = x.dtype
        if self.good:
            x = x.float()
        x = x - x.mean((-2, -1), keepdim=True)
        square = x.square().mean((-2, -1), keepdim=True)
        return (x * (square + 1e-3).rsqrt()).to(given)


class Net(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.norms = nn.ModuleList(Norm(good) for _ in range(2))
        self.head = nn.Linear(128, 3)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.float16):
            h = torch.relu(self.norms[0](self.first(x)))
            h = torch.relu(self.norms[1](self.second(h)))
            h = F.avg_pool2d(h, 2)
            return self.head(h.flatten(1)).float()


def _build(good):
    torch.manual_seed(723)
    patterns = torch.randn(3, 1, 8, 8)
    batches = []
    for _ in range(40):
        y = torch.randint(0, 3, (16,))
        x = 600 * (patterns[y] + torch.randn(16, 1, 8, 8))
        batches.append((x, y))
    model = Net(good)
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
