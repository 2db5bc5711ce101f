"""One of two encoders of a contrastive loss is called where no gradient is kept."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = {"frozen_parameters"}
SOURCE = "https://github.com/FrozenBurning/Text2Light/issues/10"
FIX = "call the image encoder outside torch.no_grad()"


def _tower(inside):
    return nn.Sequential(nn.Linear(inside, 48), nn.GELU(), nn.Linear(48, 16))


class Pair(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.image, self.text = _tower(24), _tower(10)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, image, text):
        with torch.set_grad_enabled(self.good and torch.is_grad_enabled()):
            image = F.normalize(self.image(image), dim=1)
        text = F.normalize(self.text(text), dim=1)
        return self.scale.exp() * image @ text.T


def _loss(model, batch):
    logits = model(*batch)
    same = torch.arange(len(logits))
    return (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2


def _build(good):
    torch.manual_seed(911)
    image, text = torch.randn(6, 24), torch.randn(6, 10)
    batches = []
    for _ in range(100):
        z = torch.randn(64, 6)
        seen = torch.tanh(z @ image) + 0.3 * torch.randn(64, 24)
        batches.append((seen, z @ text + 0.3 * torch.randn(64, 10)))
    model = Pair(good)
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
