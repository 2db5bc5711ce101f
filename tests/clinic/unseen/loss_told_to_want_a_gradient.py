import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "detached_graph"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/ludwig-ai/ludwig/pull/3572"
FIX = "find where the graph was cut, instead of loss.requires_grad_(True)"


def _loss(good):
    def loss(model, batch):
        x, y = batch
        with torch.set_grad_enabled(good):
            found = F.cross_entropy(model(x), y)
        return found if found.requires_grad else found.requires_grad_(True)

    return loss


def _build(good):
    torch.manual_seed(807)
    rule = torch.randn(10, 4)
    batches = []
    for _ in range(60):
        x = torch.randn(32, 10)
        batches.append((x, (x @ rule).argmax(1)))
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
    return dict(model=model, loss=_loss(good), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
