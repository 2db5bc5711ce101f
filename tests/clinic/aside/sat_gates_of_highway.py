import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "saturated_activation"
ALSO_OK = {"init_too_large", "vanishing"}
SOURCE = "written for this test, after common reports"
FIX = "gate bias -1 instead of 40: the sigmoid is flat there"


class Gated(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.inp = nn.Linear(16, 32)
        self.value = nn.Linear(32, 32)
        self.gate = nn.Linear(32, 32)
        nn.init.constant_(self.gate.bias, bias)
        self.out = nn.Linear(32, 4)

    def forward(self, x):
        h = self.inp(x)
        g = torch.sigmoid(self.gate(h))
        return self.out(torch.tanh(self.value(h)) * (1 - g))


def _build(good):
    torch.manual_seed(104)
    protos = torch.randn(4, 16)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 4, (32,))
        batches.append((protos[y] + 0.6 * torch.randn(32, 16), y))
    model = Gated(-1.0 if good else 40.0)
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
