import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "warmup_missing"
ALSO_OK = {"lr_too_high"}
SOURCE = "github.com/LiyuanLucasLiu/Transformer-Clinic/issues/16 (same kind)"
FIX = "40 steps of warm-up"


class Post(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(16, 32)
        self.pos = nn.Parameter(0.1 * torch.randn(12, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
        self.head = nn.Linear(32, 16)

    def forward(self, x):
        return self.head(self.body(self.emb(x) + self.pos))


def loss_fn(out, y):
    return F.cross_entropy(out.flatten(0, 1), y.flatten())


def _build(good):
    torch.manual_seed(122)
    step = torch.randperm(16)
    batches = []
    for _ in range(160):
        x = torch.randint(0, 16, (16, 12))
        batches.append((x, step[x]))
    model = Post()
    opt = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = None
    if good:
        opt.param_groups[0]["lr"] = 0.0
        seen = [0]

        def scheduler():
            seen[0] += 1
            opt.param_groups[0]["lr"] = 1e-2 * min(1, seen[0] / 60)

    return dict(
        model=model,
        loss_fn=loss_fn,
        optimizer=opt,
        batches=batches,
        clip=1.0,
        scheduler=scheduler,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
