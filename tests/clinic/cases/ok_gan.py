import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "https://github.com/junyanz/pytorch-CycleGAN-and-pix2pix/issues/335"
FIX = "nothing to fix: a minimax loss does not fall"


class GAN(nn.Module):
    def __init__(self):
        super().__init__()
        self.g = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
        self.d = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))


def make():
    torch.manual_seed(29)
    batches = []
    for _ in range(80):
        a = 6.28 * torch.rand(64)
        x = torch.stack([a.cos(), a.sin()], 1) + 0.05 * torch.randn(64, 2)
        batches.append((x, x))
    model = GAN()
    opt = torch.optim.Adam(model.g.parameters(), lr=1e-3, betas=(0.5, 0.99))
    opt_d = torch.optim.Adam(model.d.parameters(), lr=1e-3, betas=(0.5, 0.99))

    def step(batch):
        x = batch[0]
        fake = model.g(torch.randn(64, 8))
        opt_d.zero_grad()
        real, wrong = model.d(x), model.d(fake.detach())
        (F.softplus(-real).mean() + F.softplus(wrong).mean()).backward()
        opt_d.step()
        opt.zero_grad()
        loss = F.softplus(-model.d(fake)).mean()
        loss.backward()
        opt.step()
        return loss

    return dict(model=model, step=step, optimizer=opt, batches=batches)


make_fixed = make
