"""The gradient of the balance of experts is slipped in by an own backward, per token.
It is hundreds of times that of the answers, and the router learns balance alone."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_terms_unbalanced"
ALSO_OK = set()
SOURCE = "https://github.com/NVIDIA-NeMo/Automodel/issues/1408"
FIX = "scale the slipped-in gradient by its coefficient, not by the number of tokens"

EXPERTS = 4


class Slip(torch.autograd.Function):
    """Passes the weights on, and gives the side loss a gradient of its own."""

    @staticmethod
    def forward(ctx, weights, side, scale):
        ctx.scale = scale
        ctx.save_for_backward(side)
        return weights.clone()

    @staticmethod
    def backward(ctx, grad):
        (side,) = ctx.saved_tensors
        return grad, torch.full_like(side, ctx.scale), None


class Mixture(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.router = nn.Linear(8, EXPERTS)
        self.experts = nn.ModuleList(nn.Linear(8, 4) for _ in range(EXPERTS))

    def forward(self, x):
        share = self.router(x).softmax(1)
        load = F.one_hot(share.argmax(1), EXPERTS).float().mean(0)
        side = EXPERTS * (load * share.mean(0)).sum()
        scale = 0.001 if self.good else float(len(x))
        share = Slip.apply(share, side, scale)
        answers = torch.stack([expert(x) for expert in self.experts], 1)
        return (share[..., None] * answers).sum(1)


def _loss(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


def _build(good):
    torch.manual_seed(2117)
    centers = 3 * torch.eye(8)[:EXPERTS]
    rules = torch.randn(EXPERTS, 8, 4) / 2
    often = torch.tensor([0.7, 0.1, 0.1, 0.1])
    batches = []
    for _ in range(200):
        kind = torch.multinomial(often, 256, replacement=True)
        x = centers[kind] + torch.randn(256, 8)
        y = torch.einsum("ni,nio->no", x - centers[kind], rules[kind])
        batches.append((x, y))
    model = Mixture(good)
    opt = torch.optim.Adam(model.parameters(), lr=2e-2)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
