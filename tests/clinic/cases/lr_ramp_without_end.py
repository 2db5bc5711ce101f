import torch
from torch import nn

CAUSE = "lr_too_high"
ALSO_OK = {"warmup_missing", "optimizer_misconfigured"}
SOURCE = "https://github.com/athena-team/athena/issues/148"
FIX = "stop the ramp at 0.1"


def _build(good):
    torch.manual_seed(2)
    w = torch.randn(16, 1) / 4
    batches = []
    for _ in range(80):
        x = torch.randn(32, 16)
        batches.append((x, torch.sin(2 * x @ w)))
    model = nn.Sequential(
        nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
    )
    opt = torch.optim.SGD(model.parameters(), lr=0.02)

    def scheduler():
        lr = opt.param_groups[0]["lr"] * 1.1
        opt.param_groups[0]["lr"] = min(lr, 0.1) if good else lr

    return dict(
        model=model,
        loss_fn=nn.MSELoss(),
        optimizer=opt,
        batches=batches,
        scheduler=scheduler,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
