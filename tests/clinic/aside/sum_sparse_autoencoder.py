import torch
from torch import nn

CAUSE = "sum_reduction"
ALSO_OK = {"lr_too_high"}
SOURCE = "https://github.com/ai-safety-foundation/sparse_autoencoder/issues/63"
FIX = "mean over the batch"


class SAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(24, 64), nn.Linear(64, 24)

    def forward(self, x):
        code = torch.relu(self.enc(x))
        return self.dec(code), code


def _build(good):
    torch.manual_seed(109)

    def loss(model, batch):
        out, code = model(batch[0])
        each = ((out - batch[0]) ** 2).sum(1) + 1e-3 * code.abs().sum(1)
        return each.mean() if good else each.sum()

    features = torch.randn(64, 24) / 3
    batches = []
    for _ in range(60):
        x = ((torch.rand(256, 64) < 0.05) * torch.rand(256, 64)) @ features
        batches.append((x,))
    model = SAE()
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
