import torch
from torch import nn

CAUSE = "unnormalized_input"
ALSO_OK = set()
SOURCE = "https://github.com/ruotianluo/pytorch-faster-rcnn/issues/151"
FIX = "standardize the numeric columns"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.category = nn.Embedding(10, 8)
        self.body = nn.Sequential(nn.Linear(8 + 5, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, x):
        numbers, categories = x
        return self.body(torch.cat([numbers, self.category(categories)], 1))


def _build(good):
    torch.manual_seed(107)
    effect = torch.randn(10)
    batches = []
    for _ in range(60):
        z = torch.randn(64, 5)
        k = torch.randint(0, 10, (64,))
        y = torch.tanh(z[:, 0] - z[:, 1]) + effect[k]
        mean = torch.tensor([40.0, 5e4, 3e3, 12.0, 700.0])
        numbers = z if good else mean + z * mean / 3
        batches.append(((numbers, k), y[:, None]))
    model = Net()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
