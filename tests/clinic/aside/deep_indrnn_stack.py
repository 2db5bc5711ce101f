import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "deep_no_skip_or_norm"
ALSO_OK = {"vanishing", "init_too_large"}
SOURCE = "https://github.com/Sunnydreamrain/IndRNN_Theano_Lasagne/issues/1"
FIX = "keep the normalization between the layers"


class Stack(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(8 if i == 0 else 32, 32) for i in range(24)
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(32) if good else nn.Identity() for _ in range(24)
        )
        self.out = nn.Linear(32, 4)

    def forward(self, x):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = torch.relu(norm(layer(x)))
        return self.out(x)


def _build(good):
    torch.manual_seed(115)
    protos = torch.randn(4, 8)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 4, (32,))
        batches.append((protos[y] + 0.5 * torch.randn(32, 8), y))
    model = Stack(good)
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
