import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "no torch.no_grad() around an encoder that must learn"


class Net(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.encoder = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
        self.decoder = nn.Linear(4, 10)

    def forward(self, x):
        with torch.set_grad_enabled(self.good):
            code = self.encoder(x)
        return self.decoder(code)


def _build(good):
    torch.manual_seed(117)
    mixing = torch.randn(3, 10)
    batches = []
    for _ in range(60):
        x = torch.randn(32, 3).pow(3) @ mixing / 3
        batches.append((x, x))
    model = Net(good)
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    return dict(model=model, loss_fn=F.mse_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
