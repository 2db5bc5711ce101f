import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "vanishing"
ALSO_OK = {"deep_no_skip_or_norm"}
SOURCE = "github.com/torch/nn/issues/449 (same kind)"
FIX = "He initialization"


def table(n, batch, features=20, classes=5, noise=0.5):
    protos = torch.randn(classes, features)
    out = []
    for _ in range(n):
        y = torch.randint(0, classes, (batch,))
        out.append((protos[y] + noise * torch.randn(batch, features), y))
    return out


def _build(good):
    torch.manual_seed(105)
    batches = table(80, 32)
    layers = [nn.Linear(20, 48), nn.ReLU()]
    for _ in range(8):
        layers += [nn.Linear(48, 48), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(48, 5))
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.kaiming_normal_(m.weight) if good else nn.init.normal_(
                m.weight, std=0.01
            )
            nn.init.zeros_(m.bias)
    opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return dict(
        model=model,
        loss_fn=F.cross_entropy,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
