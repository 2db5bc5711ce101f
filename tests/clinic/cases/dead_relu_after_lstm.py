import torch
from torch import nn

CAUSE = "dead_relu"
ALSO_OK = set()
SOURCE = "https://github.com/keras-team/keras/issues/3687"
FIX = "no ReLU on the output: softplus keeps a gradient"


class Net(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.rnn = nn.LSTM(4, 24, batch_first=True)
        self.head = nn.Linear(24, 1)
        self.act = nn.Softplus() if good else nn.ReLU()
        nn.init.constant_(self.head.bias, -0.4)

    def forward(self, x):
        hidden, _ = self.rnn(x)
        return self.act(self.head(hidden[:, -1]))


def _build(good):
    torch.manual_seed(105)
    batches = []
    for _ in range(60):
        x = torch.randn(32, 12, 4)
        batches.append((x, x[:, -4:, :2].mean((1, 2)).exp()[:, None]))
    model = Net(good)
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(
        model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches, clip=1.0
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
