"""In mixed precision the gradient is clipped while it still carries the scale of the
loss. The norm left after unscaling is minute, and the loss does not decrease any
more."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "clip_misplaced"
ALSO_OK = {"clip_too_tight"}
SOURCE = "https://github.com/pytorch/pytorch/issues/40907"
FIX = "call scaler.unscale_(optimizer) before the clipping"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, 1)
        self.conv2 = nn.Conv2d(8, 16, 3, 1)
        self.fc1 = nn.Linear(256, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        return F.log_softmax(self.fc2(x), dim=1)


def _build(unscale):
    torch.manual_seed(5377)
    digits = (torch.rand(10, 1, 12, 12) < 0.3).float()
    batches = []
    for _ in range(100):
        target = torch.randint(10, (32,))
        data = digits[target] + 0.7 * torch.randn(32, 1, 12, 12)
        batches.append((data, target))
    model = Net()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu")

    def step(batch):
        data, target = batch
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(data)
        loss = F.nll_loss(output.float(), target)
        scaler.scale(loss).backward()
        if unscale:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 12)
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return dict(model=model, optimizer=optimizer, step=step, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
