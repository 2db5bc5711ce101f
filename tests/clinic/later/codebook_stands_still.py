import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = {"representation_collapse"}
SOURCE = "https://github.com/showlab/Olaf-World/issues/8"
FIX = (
    "compute the codebook loss on the looked-up codes, before the straight-through sum"
)


class Quantized(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.encode = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        self.codes = nn.Embedding(24, 4)
        self.decode = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, x):
        z = self.encode(x)
        index = torch.cdist(z, self.codes.weight).argmin(1)
        code = self.codes(index)
        passed = z + (code - z).detach()
        learned = code if self.good else passed
        codebook = F.mse_loss(learned, z.detach())
        commitment = F.mse_loss(z, code.detach())
        return self.decode(passed), codebook + 0.25 * commitment


def _loss(model, batch):
    out, extra = model(batch)
    return F.mse_loss(out, batch) + extra


def _build(good):
    torch.manual_seed(703)
    centers = torch.randn(8, 16)
    batches = [
        centers[torch.randint(0, 8, (48,))] + 0.1 * torch.randn(48, 16)
        for _ in range(100)
    ]
    model = Quantized(good)
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
