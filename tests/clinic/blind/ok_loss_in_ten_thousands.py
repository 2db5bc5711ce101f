import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "github.com/TIGER-AI-Lab/VLM2Vec/issues/137 (same kind)"
FIX = "nothing to fix"


def make():
    torch.manual_seed(133)
    w = torch.randn(10, 1)
    batches = []
    for _ in range(80):
        x = torch.randn(32, 10)
        batches.append((x, x @ w))
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1))
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(
        model=model,
        loss_fn=lambda out, y: 1e4 * F.mse_loss(out, y),
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


make_fixed = make
