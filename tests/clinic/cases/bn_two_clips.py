import torch
from torch import nn

CAUSE = "batchnorm_misuse"
ALSO_OK = set()
SOURCE = "https://github.com/junyanz/CycleGAN/issues/55"
FIX = "more than two clips a batch"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(12, 48),
            nn.BatchNorm1d(48),
            nn.ReLU(),
            nn.Linear(48, 24),
            nn.BatchNorm1d(24),
            nn.ReLU(),
        )
        self.head = nn.Linear(24, 1)

    def forward(self, x):
        return self.head(self.features(x))


def _build(good):
    torch.manual_seed(118)
    w = torch.randn(12, 1) / 3
    batches = []
    for _ in range(120):
        x = torch.randn(32 if good else 2, 12)
        batches.append((x, 2 * torch.sigmoid(x @ w) + x[:, :1]))
    model = Net()
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
