import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "github.com/mpariente/pytorch_stoi/issues/7 (same kind)"
FIX = "sqrt(d + eps)"


class Embed(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 8))

    def forward(self, pair):
        a, b = self.net(pair[:, 0]), self.net(pair[:, 1])
        return (a - b).square().sum(1)


def _build(good):
    torch.manual_seed(112)
    protos = torch.randn(10, 16)

    def loss_fn(squared, same):
        distance = torch.sqrt(squared + (1e-6 if good else 0))
        return (same * squared + (1 - same) * F.relu(1 - distance).square()).mean()

    batches = []
    for k in range(60):
        i, j = torch.randint(0, 10, (2, 32))
        pair = torch.stack([protos[i], protos[j]], 1) + 0.2 * torch.randn(32, 2, 16)
        if k % 7 == 5:
            pair[3, 1] = pair[3, 0]
        batches.append((pair, (i == j).float()))
    model = Embed()
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    return dict(
        model=model,
        loss_fn=loss_fn,
        optimizer=opt,
        batches=batches,
        clip=1.0,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
