import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

CAUSE = "detached_graph"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/ostris/ai-toolkit/issues/1054"
FIX = "let the inputs of the first checkpoint want a gradient, or use_reentrant=False"


class Adapted(nn.Module):
    def __init__(self, width, rank=4):
        super().__init__()
        self.base = nn.Linear(width, width)
        self.base.requires_grad_(False)
        self.lora_a = nn.Parameter(torch.randn(rank, width) / width**0.5)
        self.lora_b = nn.Parameter(torch.zeros(width, rank))

    def forward(self, x):
        return x + F.gelu(self.base(x) + x @ self.lora_a.T @ self.lora_b.T)


class Denoiser(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.reentrant = reentrant
        self.read = nn.Linear(9, 32)
        self.read.requires_grad_(False)
        self.blocks = nn.ModuleList(Adapted(32) for _ in range(3))
        self.norm = nn.LayerNorm(32)
        self.write = nn.Linear(32, 8)
        self.write.requires_grad_(False)

    def forward(self, noisy, t):
        h = self.read(torch.cat([noisy, t], 1))
        for block in self.blocks:
            h = checkpoint(block, h, use_reentrant=self.reentrant)
        return self.write(self.norm(h))


def _loss(model, batch):
    noisy, t, noise = batch
    return F.mse_loss(model(noisy, t), noise)


def _build(good):
    torch.manual_seed(702)
    batches = []
    mix = torch.randn(2, 8)
    for _ in range(100):
        x, noise, t = torch.randn(32, 2) @ mix, torch.randn(32, 8), torch.rand(32, 1)
        noisy = (1 - t) * x + t * noise
        batches.append((noisy, t, noise))
    model = Denoiser(not good)
    wanted = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(wanted, lr=1e-2)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
