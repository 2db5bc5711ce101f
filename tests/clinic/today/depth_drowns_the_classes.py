import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_terms_unbalanced"
ALSO_OK = {"unscaled_target"}
SOURCE = "written for this test, after common reports (multi-task losses)"
FIX = "weigh the depth loss by 1e-4"


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 12))
        self.depth, self.kind = nn.Linear(12, 1), nn.Linear(12, 6)

    def forward(self, x):
        h = torch.tanh(self.body(x))
        return self.depth(h), self.kind(h)


def _build(good):
    torch.manual_seed(514)
    protos, w = torch.randn(6, 16), torch.randn(16, 1) / 4
    batches = []
    for _ in range(100):
        y = torch.randint(0, 6, (32,))
        x = protos[y] + 0.6 * torch.randn(32, 16)
        batches.append((x, torch.sin(3 * x @ w), y))
    weight = 1.0 if good else 1e4

    def loss(model, batch):
        depth, kind = model(batch[0])
        return weight * F.mse_loss(depth, batch[1]) + F.cross_entropy(kind, batch[2])

    model = Two()
    opt = torch.optim.SGD(model.parameters(), lr=0.1 / weight, momentum=0.9)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
