import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "warmup_missing"
ALSO_OK = {"lr_too_high"}
SOURCE = "https://github.com/LiyuanLucasLiu/Transformer-Clinic/issues/16"
FIX = "ramp the learning rate up over the first steps"


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(20, 32)
        self.pos = nn.Parameter(0.1 * torch.randn(12, 32))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
            for _ in range(6)
        )
        self.out = nn.Linear(32, 20)

    def forward(self, x):
        h = self.emb(x) + self.pos
        for layer in self.layers:
            h = layer(h)
        return self.out(h)


def loss_fn(out, y):
    return F.cross_entropy(out.flatten(0, 1), y.flatten())


def _build(good):
    torch.manual_seed(23)
    batches = []
    for _ in range(80):
        seq = (
            torch.randint(0, 20, (16, 1))
            + torch.randint(1, 3, (16, 1)) * torch.arange(13)
        ) % 20
        batches.append((seq[:, :-1], seq[:, 1:]))
    model = Encoder()
    opt = torch.optim.Adam(model.parameters(), lr=1.3e-3 if good else 4e-2)
    ramp = torch.optim.lr_scheduler.LambdaLR(opt, lambda t: 1 + min(t / 60, 1.0) * 29)
    return dict(
        model=model,
        loss_fn=loss_fn,
        optimizer=opt,
        batches=batches,
        scheduler=ramp.step if good else None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
