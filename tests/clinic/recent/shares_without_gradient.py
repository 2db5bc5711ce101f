"""The backward pass of a fused bag has a gradient for the table, none for the shares.
The network that says which entries matter never learns, and all of them are blended."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = {"software_version_bug"}
SOURCE = "https://github.com/meta-pytorch/torchrec/pull/4602"
FIX = "return the product of the rows and the gradient of the bag for the shares"


class Bag(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, ids, shares, good):
        rows = table[ids]
        ctx.save_for_backward(ids, shares, rows)
        ctx.size, ctx.good = table.shape, good
        return (rows * shares[..., None]).sum(1)

    @staticmethod
    def backward(ctx, grad):
        ids, shares, rows = ctx.saved_tensors
        table = grad.new_zeros(ctx.size)
        each = shares[..., None] * grad[:, None]
        table.index_add_(0, ids.flatten(), each.flatten(0, 1))
        back = (rows * grad[:, None]).sum(-1) if ctx.good else None
        return table, None, back, None


class Model(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.table = nn.Parameter(0.3 * torch.randn(40, 12))
        self.share = nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 1))
        self.out = nn.Linear(12, 1)

    def forward(self, ids, when):
        shares = self.share(when)[..., 0].softmax(1)
        return self.out(Bag.apply(self.table, ids, shares, self.good))[:, 0]


def _loss(model, batch):
    ids, when, y = batch
    return F.mse_loss(model(ids, when), y)


def _build(good):
    torch.manual_seed(2121)
    worth, cue = torch.randn(40), torch.randn(5)
    batches = []
    for _ in range(200):
        ids, when = torch.randint(0, 40, (128, 8)), torch.randn(128, 8, 5)
        last = (when @ cue).argmax(1, keepdim=True)
        batches.append((ids, when, worth[ids.gather(1, last)[:, 0]]))
    model = Model(good)
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
