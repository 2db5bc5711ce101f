"""model.parameters() was kept in a name and used up before it reached the clip.

clip_grad_norm_ of an empty generator clips nothing and says nothing.
"""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "clip_misplaced"
ALSO_OK = {"lr_too_high", "recurrent_explosion"}
SOURCE = "https://github.com/pytorch/pytorch/issues/148259"
FIX = "parameters = list(model.parameters())"


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(3, 48, batch_first=True)
        nn.init.orthogonal_(self.rnn.weight_hh_l0, gain=1.6)
        self.head = nn.Linear(48, 1)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def _build(good):
    torch.manual_seed(922)
    batches = []
    for _ in range(100):
        x = torch.randn(32, 40, 3)
        batches.append((x, 3 * x[:, -3:].mean((1, 2))[:, None]))
    model = Reader()
    parameters = model.parameters()
    if good:
        parameters = list(parameters)
    opt = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)

    def step(batch):
        x, y = batch
        loss = F.mse_loss(model(x), y)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 0.3)
        opt.step()
        return loss.item()

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
