import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "nothing to fix: batches of four are noisy, the average falls"


def make():
    torch.manual_seed(123)
    protos = torch.randn(6, 20)
    batches = []
    for _ in range(120):
        y = torch.randint(0, 6, (4,))
        batches.append((protos[y] + 1.5 * torch.randn(4, 20), y))
    model = nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 6)
    )
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


make_fixed = make
