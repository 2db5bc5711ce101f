import torch
from torch import nn

CAUSE = "unscaled_target"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "predict (sales - mean) / std"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, series):
        return self.head(self.rnn(series)[0][:, -1])


def loss(model, batch):
    return ((model(batch["series"]) - batch["sales"]) ** 2).mean()


def _build(good):
    torch.manual_seed(108)
    batches = []
    for _ in range(60):
        x = torch.randn(32, 10, 3)
        y = x[:, -3:].mean((1, 2))[:, None] * 3
        batches.append({"series": x, "sales": y if good else 5200 + 1800 * y})
    model = Net()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
