import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = set()
SOURCE = "https://github.com/wonbeomjang/mobile-hair-segmentation-pytorch/issues/3"
FIX = "use the soft prediction instead of argmax"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.coarse = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        self.fine = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))

    def forward(self, x):
        return self.coarse(x), self.fine(x)


def _build(good):
    torch.manual_seed(27)

    def loss_fn(out, y):
        coarse, fine = out
        p = coarse.softmax(1)
        level = (p @ torch.arange(4.0)) if good else coarse.argmax(1).float()
        return F.cross_entropy(fine, y) + F.mse_loss(level, (y // 2).float())

    protos = torch.randn(8, 16)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 8, (32,))
        batches.append((protos[y] + 0.5 * torch.randn(32, 16), y))
    model = Net()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=loss_fn, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
