import torch
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "nothing: a critic's loss has no floor and its weights are clipped on purpose"


def loss(critic, batch):
    with torch.no_grad():
        for p in critic.parameters():
            p.clamp_(-0.1, 0.1)
    real, fake = batch
    return critic(fake).mean() - critic(real).mean()


def _build():
    torch.manual_seed(126)
    batches = []
    for _ in range(60):
        real = torch.randn(64, 6) + torch.tensor([1.0, -1, 0.5, 0, 0, 1])
        batches.append((real, torch.randn(64, 6)))
    model = nn.Sequential(
        nn.Linear(6, 64),
        nn.LeakyReLU(0.2),
        nn.Linear(64, 64),
        nn.LeakyReLU(0.2),
        nn.Linear(64, 1),
    )
    opt = torch.optim.RMSprop(model.parameters(), lr=5e-4)
    return dict(model=model, optimizer=opt, batches=batches, loss=loss)


def make():
    return _build()


make_fixed = make
