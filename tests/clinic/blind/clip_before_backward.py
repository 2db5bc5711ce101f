import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "clip_misplaced"
ALSO_OK = set()
SOURCE = "github.com/simchowitzlabpublic/nano-world-model/pull/22 (same kind)"
FIX = "clip between backward and step"


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(4, 32, nonlinearity="relu", batch_first=True)
        nn.init.eye_(self.rnn.weight_hh_l0)
        self.rnn.weight_hh_l0.data *= 1.04
        self.out = nn.Linear(32, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1]).squeeze(1)


def _build(good):
    torch.manual_seed(121)
    batches = []
    for _ in range(80):
        x = torch.randn(32, 40, 4)
        batches.append((x, x[:, -5:, 0].mean(1)))
    model = Reader()
    opt = torch.optim.SGD(model.parameters(), lr=0.02)

    def step(batch):
        x, y = batch
        opt.zero_grad()
        loss = F.mse_loss(model(x), y)
        if not good:
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        loss.backward()
        if good:
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        opt.step()
        return loss

    return dict(
        model=model, step=step, optimizer=opt, batches=batches, clip=0.5, scheduler=None
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
