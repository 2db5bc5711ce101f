import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unnormalized_input"
ALSO_OK = {"unscaled_target"}
SOURCE = "https://github.com/BaratiLab/Diffusion-based-Fluid-Super-resolution/issues/11"
FIX = "(x - offset) / scale, in this order"


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(13, 64),
            nn.SiLU(),
            nn.Linear(64, 64),
            nn.SiLU(),
            nn.Linear(64, 12),
        )

    def forward(self, inputs):
        return self.net(inputs)


def _build(good):
    torch.manual_seed(717)
    offset, scale = 0.02, 4.7
    first, second = (offset, scale) if good else (scale, offset)
    mix = torch.randn(3, 12) / 3**0.5
    batches = []
    for _ in range(100):
        field = offset + scale * torch.randn(64, 3) @ mix
        x = (field - first) / second
        t, noise = torch.rand(64, 1), torch.randn(64, 12)
        noisy = (1 - t) * x + t * noise
        batches.append((torch.cat([noisy, t], 1), noise))
    model = Denoiser()
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(model=model, loss_fn=F.mse_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
