import torch
from torch import nn

CAUSE = "dead_relu"
ALSO_OK = set()
SOURCE = "https://github.com/Yang7879/3D-RecGAN/issues/6"
FIX = "a hidden ReLU never fires after this draw: re-initialize the bias with 0"


class Net(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = (
            nn.Linear(12, 64),
            nn.Linear(64, 64),
            nn.Linear(64, 3),
        )
        nn.init.constant_(self.fc2.bias, 0.0 if good else -4.0)

    def forward(self, x):
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


def _build(good):
    torch.manual_seed(105)
    w = torch.randn(12, 3) / 3
    batches = []
    for _ in range(80):
        x = torch.randn(32, 12)
        batches.append((x, torch.sin(x @ w)))
    model = Net(good)
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
