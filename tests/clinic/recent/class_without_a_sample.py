"""The weight of a class is divided by how many samples it has, and one class has none.
Its weight is infinite, so the weights divided by their sum are NaN or zero."""

import torch
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/fcakyon/balanced-loss/pull/12"
FIX = "give a class without samples the weight zero"

CLASSES = 6


def _weights(many, good):
    spread = 1 - 0.999 ** many.double()
    weights = (1 - 0.999) / spread
    if good:
        weights = weights.masked_fill(many == 0, 0.0)
    return (weights / weights.sum() * CLASSES).float()


def _build(good):
    torch.manual_seed(2125)
    centers = torch.randn(CLASSES, 14)
    often = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05, 0.0])
    labels = torch.multinomial(often, 6400, replacement=True)
    x = centers[labels] + 0.8 * torch.randn(6400, 14)
    weights = _weights(torch.bincount(labels, minlength=CLASSES), good)

    def loss(model, batch):
        logp = model(batch[0]).log_softmax(1)
        mine = logp.gather(1, batch[1][:, None])[:, 0]
        focal = -((1 - mine.exp()) ** 2) * mine
        return (focal * weights[batch[1]]).sum() / weights[batch[1]].sum()

    model = nn.Sequential(nn.Linear(14, 64), nn.GELU(), nn.Linear(64, CLASSES))
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    batches = list(zip(x.split(64), labels.split(64), strict=True))
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
