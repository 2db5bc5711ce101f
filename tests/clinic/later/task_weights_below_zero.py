import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = {"objective_out_of_reach"}
SOURCE = "https://github.com/QunBB/DeepLearning/issues/1"
FIX = "learn the logarithm of the weight"


class Tasks(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.trunk = nn.Sequential(nn.Linear(8, 32), nn.ReLU())
        self.value, self.kind = nn.Linear(32, 1), nn.Linear(32, 3)
        self.weights = nn.Parameter(torch.zeros(2) if good else torch.ones(2))

    def forward(self, x):
        h = self.trunk(x)
        return self.value(h).squeeze(1), self.kind(h)


def _loss(model, batch):
    x, value, kind = batch
    out, logits = model(x)
    terms = torch.stack([F.mse_loss(out, value), F.cross_entropy(logits, kind)])
    if model.good:
        return (terms * (-2 * model.weights).exp() / 2 + model.weights).sum()
    return (terms / (2 * model.weights.square()) + model.weights.log()).sum()


def _build(good):
    torch.manual_seed(716)
    rule, sort = torch.randn(8), torch.randn(8, 3)
    batches = []
    for _ in range(100):
        x = torch.randn(32, 8)
        batches.append((x, torch.sin(x @ rule / 2), (x @ sort).argmax(1)))
    model = Tasks(good)
    opt = torch.optim.Adam(
        [
            {"params": [model.weights], "lr": 0.1},
            {"params": [p for n, p in model.named_parameters() if n != "weights"]},
        ],
        lr=1e-2,
    )
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
