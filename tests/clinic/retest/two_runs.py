"""A run is stopped, the model is saved and loaded, and a second run goes on with a
new Adam. The loss, low at the end of the first run, is much worse in the second one."""

import io

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "resume_state_lost"
ALSO_OK = {"optimizer_misconfigured"}
SOURCE = "https://github.com/dotnet/TorchSharp/issues/760"
FIX = "save the state of the optimizer with the model, and load both"

FIRST = 96
SECOND = 14
LR = 1e-2


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin1 = nn.Linear(10, 96)
        self.lin2 = nn.Linear(96, 96)
        self.lin3 = nn.Linear(96, 1)

    def forward(self, x):
        x = torch.tanh(self.lin1(x))
        return self.lin3(torch.tanh(self.lin2(x)))


class Session:
    def __init__(self, model, optimizer, whole):
        self.model = model
        self.optimizer = optimizer
        self.whole = whole
        self.done = 0

    def save(self):
        file = io.BytesIO()
        content = {"model": self.model.state_dict()}
        if self.whole:
            content["optimizer"] = self.optimizer.state_dict()
        torch.save(content, file)
        file.seek(0)
        return file

    def load(self, file):
        content = torch.load(file)
        self.model.load_state_dict(content["model"])
        new = torch.optim.Adam(self.model.parameters(), lr=LR)
        self.optimizer.load_state_dict(content.get("optimizer", new.state_dict()))

    def step(self, batch):
        if self.done == FIRST:
            self.load(self.save())
        x, y = batch
        self.optimizer.zero_grad()
        loss = F.mse_loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        self.done += 1
        return loss.detach()


def _build(whole):
    torch.manual_seed(5411)
    weight = torch.randn(10, 3) / 2
    batches = []
    for _ in range(FIRST + SECOND):
        x = torch.randn(128, 10)
        y = torch.tanh(x @ weight).sum(1, keepdim=True)
        batches.append((x, y))
    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    session = Session(model, optimizer, whole)
    return dict(model=model, optimizer=optimizer, step=session.step, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
