import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "resume_state_lost"
ALSO_OK = {"lr_too_high", "warmup_missing"}
SOURCE = "https://github.com/EvolvingLMMs-Lab/OneVision-Encoder/pull/65"
FIX = "save and load optimizer.state_dict() with the weights"


def _build(good):
    torch.manual_seed(710)
    rule = torch.randn(16, 8) / 4
    batches = []
    for _ in range(80):
        x = torch.randn(64, 16)
        batches.append((x, torch.tanh(x @ rule)))
    model = nn.Sequential(
        nn.Linear(16, 128), nn.LayerNorm(128), nn.GELU(), nn.Linear(128, 8)
    )
    opt = torch.optim.AdamW(model.parameters(), lr=4e-2, betas=(0.9, 0.999))
    for step in range(480):
        x, y = batches[step % 80]
        opt.zero_grad()
        F.mse_loss(model(x), y).backward()
        opt.step()
    if not good:
        opt = torch.optim.AdamW(model.parameters(), lr=4e-2, betas=(0.9, 0.999))
    return dict(model=model, loss_fn=F.mse_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
