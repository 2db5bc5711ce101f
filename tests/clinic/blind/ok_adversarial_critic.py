import torch
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "github.com/junyanz/pytorch-CycleGAN-and-pix2pix/issues/335 (same kind)"
FIX = "nothing to fix"


def make():
    torch.manual_seed(138)
    batches = []
    for _ in range(100):
        real, fake = torch.randn(64, 2) + 2, torch.randn(64, 2) - 1
        batches.append((torch.stack([real, fake], 1), torch.zeros(64)))
    critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    opt = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.9))

    def loss(model, batch):
        x = batch[0].requires_grad_()
        real, fake = model(x[:, 0]), model(x[:, 1])
        mix = (0.5 * x[:, 0] + 0.5 * x[:, 1]).detach().requires_grad_()
        (slope,) = torch.autograd.grad(model(mix).sum(), mix, create_graph=True)
        return fake.mean() - real.mean() + 10 * (slope.norm(dim=1) - 1).square().mean()

    return dict(
        model=critic,
        loss=loss,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


make_fixed = make
