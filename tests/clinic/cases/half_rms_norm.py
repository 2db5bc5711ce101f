import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "fp16_overflow"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "compute the mean square in float32"


class RMSNorm(nn.Module):
    def __init__(self, width, good):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.good = good

    def forward(self, x):
        y = x.float() if self.good else x
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-5)
        return self.weight * y.to(x.dtype)


class Net(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.words = nn.Embedding(12, 32)
        self.norm = RMSNorm(32, good)
        self.head = nn.Linear(32, 12)
        with torch.no_grad():
            self.words.weight[:6] *= 300.0  # outlier activations of a big checkpoint

    def forward(self, tokens):
        return self.head(self.norm(self.words(tokens))).float().flatten(0, 1)


def _build(good):
    torch.manual_seed(114)
    following = torch.randperm(12)
    batches = []
    for _ in range(60):
        x = torch.randint(0, 12, (16, 6))
        batches.append((x, following[x].flatten()))
    model = Net(good).half()
    opt = torch.optim.SGD(model.parameters(), lr=0.3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
