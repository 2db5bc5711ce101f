"""A small radiance field, trained on rays through a scene with a white background.
The PSNR keeps the same value: every ray comes out white, and nothing moves it."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "dead_relu"
ALSO_OK = set()
SOURCE = "https://github.com/munshisanowarraihan/nerf-meta/issues/1"
FIX = "F.softplus instead of F.relu for the density"

POINTS, NEAR, FAR = 24, 2.0, 4.0


def encode(x, octaves=4):
    waves = [f(x * 2**k) for k in range(octaves) for f in (torch.sin, torch.cos)]
    return torch.cat([x, *waves], -1)


class Nerf(nn.Module):
    def __init__(self, density):
        super().__init__()
        layers = [nn.Linear(27, 64), nn.ReLU()]
        for _ in range(5):
            layers += [nn.Linear(64, 64), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Linear(64, 4))
        self.density = density

    def forward(self, xyz):
        out = self.net(encode(xyz))
        return torch.sigmoid(out[..., :3]), self.density(out[..., 3])


def composite(rgb, sigma, gap):
    alpha = 1 - torch.exp(-sigma * gap)
    clear = torch.cumprod(1 - alpha + 1e-10, 1)
    clear = torch.cat([torch.ones_like(clear[:, :1]), clear[:, :-1]], 1)
    weight = alpha * clear
    return (weight[..., None] * rgb).sum(1) + 1 - weight.sum(1, keepdim=True)


def scene(xyz):
    inside = (xyz - torch.tensor([0.1, -0.1, 0.0])).norm(dim=-1) < 0.55
    red, blue = 0.2 + 0.3 * (xyz[..., 0] > 0), 0.3 + 0.3 * (xyz[..., 2] > 0)
    rgb = torch.stack([red, torch.full_like(red, 0.1), blue], -1)
    return rgb, 30.0 * inside


def rays(count):
    origin = F.normalize(torch.randn(count, 3), dim=1) * 3
    target = 1.2 * (2 * torch.rand(count, 3) - 1)
    direction = F.normalize(target - origin, dim=1)
    gap = (FAR - NEAR) / POINTS
    depth = NEAR + gap * (torch.arange(POINTS) + torch.rand(count, POINTS))
    xyz = origin[:, None] + depth[..., None] * direction[:, None]
    return xyz, gap


def _loss(model, batch):
    xyz, gap, pixel = batch
    rgb, sigma = model(xyz)
    return F.mse_loss(composite(rgb, sigma, gap), pixel)


def _build(good):
    torch.manual_seed(6120)
    batches = []
    for _ in range(150):
        xyz, gap = rays(128)
        batches.append((xyz, gap, composite(*scene(xyz), gap)))
    model = Nerf(F.softplus if good else F.relu)
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
