import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unnormalized_input"
ALSO_OK = {"saturated_activation"}
SOURCE = "stackoverflow.com/questions/39525358 (same kind)"
FIX = "standardize each channel"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Conv1d(4, 32, 5, padding=2),
            nn.Conv1d(32, 32, 5, padding=2),
        )
        self.out = nn.Linear(32, 3)

    def forward(self, x):
        return self.out(F.relu(self.conv2(F.relu(self.conv1(x)))).mean(2))


def _build(good):
    torch.manual_seed(110)
    protos = torch.randn(3, 4, 1) * 0.5 + torch.randn(3, 4, 30)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 3, (32,))
        x = protos[y] + 0.7 * torch.randn(32, 4, 30)
        batches.append((x if good else 2048 + 600 * x, y))
    model = Net()
    opt = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    return dict(
        model=model,
        loss_fn=F.cross_entropy,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
