import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "recurrent_explosion"
ALSO_OK = set()
SOURCE = "https://github.com/keras-team/keras/issues/2194"
FIX = "tanh instead of ReLU inside the cell"


class Cell(nn.Module):
    def __init__(self, inputs, hidden, act):
        super().__init__()
        self.gates = nn.Linear(inputs + hidden, 4 * hidden)
        self.act = act

    def forward(self, x, h, c):
        i, f, o, g = self.gates(torch.cat([x, h], 1)).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * self.act(g)
        return o.sigmoid() * self.act(c), c


class Net(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.cell = Cell(6, 32, act)
        with torch.no_grad():
            self.cell.gates.bias[32:64] = 2.0
            self.cell.gates.weight.mul_(2.5)
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        h = c = x.new_zeros(len(x), 32)
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], h, c)
        return self.head(h)


def _build(act):
    torch.manual_seed(106)
    kinds = torch.randn(3, 6)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 3, (16,))
        batches.append((kinds[y][:, None] + torch.randn(16, 80, 6), y))
    model = Net(act)
    opt = torch.optim.SGD(model.parameters(), lr=0.05)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(torch.relu)


def make_fixed():
    return _build(torch.tanh)
