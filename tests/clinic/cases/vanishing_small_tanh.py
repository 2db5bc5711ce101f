import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "vanishing"
ALSO_OK = {"deep_no_skip_or_norm"}
SOURCE = "https://github.com/torch/nn/issues/449"
FIX = "std 0.03 shrinks the signal at every layer: xavier"


def _build(good):
    torch.manual_seed(5)
    protos = torch.randn(6, 20)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 6, (32,))
        batches.append((protos[y] + 0.5 * torch.randn(32, 20), y))
    layers, n = [], 20
    for _ in range(9):
        layers += [nn.Linear(n, 64), nn.Tanh()]
        n = 64
    model = nn.Sequential(*layers, nn.Linear(n, 6))
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.xavier_uniform_(m.weight, 5 / 3) if good else nn.init.normal_(
                m.weight, std=0.03
            )
            nn.init.zeros_(m.bias)
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
