import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "shape_mismatch"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/jsboige/CoursIA/pull/926"
FIX = "y.view_as(prediction)"


class Forecast(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRU(2, 24, batch_first=True)
        self.head = nn.Linear(24, 1)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


def _right(out, y):
    return F.huber_loss(out, y.view_as(out))


def _build(good):
    torch.manual_seed(712)
    batches = []
    for _ in range(80):
        phase, speed = 6.3 * torch.rand(64, 1), 0.3 + 0.4 * torch.rand(64, 1)
        wave = torch.sin(phase + speed * torch.arange(13.0))
        x = torch.stack(
            [wave[:, :-1], wave[:, :-1].diff(dim=1, prepend=wave[:, :1])], 2
        )
        batches.append((x, wave[:, -1]))
    model = Forecast()
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    loss_fn = _right if good else F.huber_loss
    return dict(model=model, loss_fn=loss_fn, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
