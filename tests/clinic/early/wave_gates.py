"""A classifier of time series puts an LSTM behind convolutions and gives it ReLU in
place of tanh. The state is no longer bounded: the loss jumps to very large values
early on, and hardly anything is learned after."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "recurrent_explosion"
ALSO_OK = {"lr_too_high"}
SOURCE = "https://github.com/AlexanderVNikitin/tsgm/issues/59"
FIX = "let the LSTM use tanh, its usual activation"

LENGTH = 56
CHANNELS = 3
CLASSES = 4


class LSTM(nn.Module):
    def __init__(self, inside, hidden, activation):
        super().__init__()
        self.hidden, self.activation = hidden, activation
        self.kernel = nn.Linear(inside, 4 * hidden)
        self.recurrent = nn.Linear(hidden, 4 * hidden, bias=False)
        nn.init.xavier_uniform_(self.kernel.weight)
        nn.init.orthogonal_(self.recurrent.weight)
        nn.init.zeros_(self.kernel.bias)
        nn.init.ones_(self.kernel.bias[hidden : 2 * hidden])

    def forward(self, x):
        h = c = x.new_zeros(len(x), self.hidden)
        for now in self.kernel(x).unbind(1):
            i, f, g, o = (now + self.recurrent(h)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * self.activation(g)
            h = o.sigmoid() * self.activation(c)
        return h


class ConvLSTM(nn.Module):
    def __init__(self, activation, width=32):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(CHANNELS, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=1),
            nn.ReLU(),
        )
        self.lstm = LSTM(width, width, activation)
        self.out = nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.conv(x).transpose(1, 2)
        return self.out(self.lstm(x))


def _series(count):
    label = torch.randint(0, CLASSES, (count,))
    time = torch.arange(LENGTH) / LENGTH
    speed = (2 + 2 * label)[:, None, None]
    phase = 6.28 * torch.rand(count, CHANNELS, 1)
    wave = torch.sin(6.28 * speed * time + phase)
    return 4 * wave + 0.3 * torch.randn(count, CHANNELS, LENGTH), label


def _build(activation):
    torch.manual_seed(5959)
    batches = [_series(32) for _ in range(90)]
    model = ConvLSTM(activation)
    opt = torch.optim.Adam(model.parameters(), lr=2e-2)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(torch.relu)


def make_fixed():
    return _build(torch.tanh)
