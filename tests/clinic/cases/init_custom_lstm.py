import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "init_too_large"
ALSO_OK = {"recurrent_explosion", "saturated_activation"}
SOURCE = "https://github.com/jihunchoi/recurrent-batch-normalization-pytorch/issues/5"
FIX = "draw U(-1/sqrt(h), 1/sqrt(h)) as nn.LSTM does"


class Cell(nn.Module):
    def __init__(self, n, h, good):
        super().__init__()
        self.h = h
        self.w_x, self.w_h = (
            nn.Parameter(torch.empty(4 * h, n)),
            nn.Parameter(torch.empty(4 * h, h)),
        )
        self.b = nn.Parameter(torch.zeros(4 * h))
        for w in (self.w_x, self.w_h):
            nn.init.uniform_(w, -(h**-0.5), h**-0.5) if good else nn.init.normal_(
                w, std=3.0
            )

    def forward(self, x):
        h = c = x.new_zeros(x.shape[0], self.h)
        for t in range(x.shape[1]):
            i, f, g, o = (
                F.linear(x[:, t], self.w_x) + F.linear(h, self.w_h, self.b)
            ).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return h


def _build(good):
    torch.manual_seed(4)
    v = torch.randn(6)
    batches = []
    for _ in range(60):
        x = torch.randn(32, 12, 6)
        batches.append((x, (x[:, -4:] @ v).mean(1, keepdim=True)))
    model = nn.Sequential(Cell(6, 32, good), nn.Linear(32, 1))
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
