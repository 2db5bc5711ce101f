import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "init_too_large"
ALSO_OK = {"saturated_activation"}
SOURCE = "github.com/pytorch/pytorch/issues/3121 (same kind)"
FIX = "std 0.02 or torch's default"


class Small(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.emb = nn.Embedding(30, 32)
        layer = nn.TransformerEncoderLayer(
            32, 4, 64, dropout=0.0, batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 30)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.08 if good else 1.5)

    def forward(self, x):
        return self.head(self.body(self.emb(x)))


def loss_fn(out, y):
    return F.cross_entropy(out.flatten(0, 1), y.flatten())


def _build(good):
    torch.manual_seed(103)
    step = torch.randperm(30)
    batches = []
    for _ in range(60):
        x = torch.randint(0, 30, (16, 12))
        batches.append((x, step[x]))
    model = Small(good)
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return dict(
        model=model,
        loss_fn=loss_fn,
        optimizer=opt,
        batches=batches,
        clip=1.0,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
