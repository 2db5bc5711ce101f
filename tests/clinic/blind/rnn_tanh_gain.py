import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "recurrent_explosion"
ALSO_OK = {"init_too_large", "saturated_activation"}
SOURCE = "github.com/keras-team/keras/issues/2194 (same kind)"
FIX = "orthogonal recurrent weights, clip"


class Reader(nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.rnn = nn.RNN(2, 48, batch_first=True)
        nn.init.orthogonal_(self.rnn.weight_hh_l0, gain)
        self.out = nn.Linear(48, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1]).squeeze(1)


def _build(good):
    torch.manual_seed(108)
    batches = []
    for _ in range(100):
        x = torch.rand(32, 60, 2)
        x[..., 1] = 0
        x[:, -3, 1] = x[:, -8, 1] = 1
        batches.append((x, (x[..., 0] * x[..., 1]).sum(1)))
    model = Reader(0.9 if good else 2.5)
    opt = torch.optim.SGD(model.parameters(), lr=0.05)
    return dict(
        model=model,
        loss_fn=F.mse_loss,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
