import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/ypwhs/captcha_break/issues/29"
FIX = "the target is longer than the input: wider images, or zero_infinity"


def _build(good):
    torch.manual_seed(113)

    def loss(model, batch):
        x, y, lengths = batch
        logp = model(x).log_softmax(-1).transpose(0, 1)
        return F.ctc_loss(logp, y, torch.full((len(x),), x.shape[1]), lengths)

    batches = []
    for i in range(40):
        y = torch.randint(1, 6, (8, 14))
        lengths = torch.full((8,), 4)
        x = torch.randn(8, 12, 6)
        for t in range(4):
            x[torch.arange(8), 3 * t + 1, y[:, t]] += 4
        if i in (6, 25) and not good:
            lengths[3] = 14
        batches.append((x, y, lengths))
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 6))
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
