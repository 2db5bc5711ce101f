"""pFedMe: a client nears its proximal optimum by five gradient steps, then the local
model moves toward that answer. The loss grows and is NaN within some dozen rounds."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "lr_too_high"
ALSO_OK = set()
SOURCE = "https://github.com/CharlieDinh/pFedMe/issues/11"
FIX = "a smaller learning rate"

LAMDA, INNER = 15.0, 5


class PFedMe(torch.optim.Optimizer):
    def __init__(self, params, lr, lamda):
        super().__init__(params, dict(lr=lr, lamda=lamda))

    @torch.no_grad()
    def step(self, local):
        for group in self.param_groups:
            for p, anchor in zip(group["params"], local, strict=False):
                pull = p.grad + group["lamda"] * (p - anchor)
                p.sub_(group["lr"] * pull)


def _build(good):
    torch.manual_seed(4102)
    centers = torch.randn(10, 20)
    batches = []
    for _ in range(100):
        owned = torch.randperm(10)[:5]
        y = owned[torch.randint(0, 5, (20,))]
        x = centers[y] + 0.7 * torch.randn(20, 20)
        batches.append((x, y))
    model = nn.Sequential(nn.Linear(20, 32), nn.LeakyReLU(), nn.Linear(32, 10))
    rate = 0.05 if good else 0.2
    opt = PFedMe(model.parameters(), lr=rate, lamda=LAMDA)
    local = [p.detach().clone() for p in model.parameters()]

    def step(batch):
        x, y = batch
        for _ in range(INNER):
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step(local)
        with torch.no_grad():
            for anchor, p in zip(local, model.parameters(), strict=False):
                anchor.sub_(LAMDA * rate * (anchor - p))
                p.copy_(anchor)
            return F.cross_entropy(model(x), y)

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
