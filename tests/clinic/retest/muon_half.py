"""Muon takes the gradient into its momentum before the loss scaler has looked at it.
The first overflow stays in the buffer, so every later update overflows too, and no
weight ever moves."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "optimizer_misconfigured"
ALSO_OK = {"fp16_overflow"}
SOURCE = "https://github.com/deepspeedai/DeepSpeed/issues/8432"
FIX = "keep the momentum out of steps whose gradient is not finite"

HIDDEN = 64
CLASSES = 12


class SimpleModel(nn.Module):
    def __init__(self, nlayers=3):
        super().__init__()
        self.linears = nn.ModuleList(
            nn.Linear(HIDDEN, HIDDEN, bias=False) for _ in range(nlayers)
        )
        self.out = nn.Linear(HIDDEN, CLASSES, bias=False)

    def forward(self, x):
        for layer in self.linears:
            x = F.relu(layer(x))
        return self.out(x)


def newton_schulz(g):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (g.norm() + 1e-7)
    flip = x.shape[0] > x.shape[1]
    x = x.T if flip else x
    for _ in range(5):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x.T if flip else x


def muon_update(grad, momentum, beta, guard):
    if guard and not torch.isfinite(grad).all():
        return grad
    momentum.lerp_(grad, 1 - beta)
    update = grad.lerp(momentum, beta)
    rows, columns = grad.shape
    return newton_schulz(update) * max(1, rows / columns) ** 0.5


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr, beta=0.95, guard=False):
        super().__init__(params, dict(lr=lr, beta=beta))
        self.guard = guard
        self.loss_scale = 2.0**16

    @torch.no_grad()
    def step(self, closure=None):
        updates = []
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                update = muon_update(
                    p.grad, state["momentum_buffer"], group["beta"], self.guard
                )
                updates.append((group, p, update))
        if not all(torch.isfinite(u).all() for _, _, u in updates):
            self.loss_scale = max(1.0, self.loss_scale / 2)
            return
        for group, p, update in updates:
            p.add_(update, alpha=-group["lr"])


def _build(guard):
    torch.manual_seed(5433)
    centers = 20 * torch.randn(CLASSES, HIDDEN)
    batches = []
    for _ in range(110):
        y = torch.randint(CLASSES, (16,))
        batches.append((centers[y] + 30 * torch.randn(16, HIDDEN), y))
    model = SimpleModel()
    optimizer = Muon(model.parameters(), lr=0.005, guard=guard)

    def step(batch):
        x, y = batch
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            output = model(x)
        loss = F.cross_entropy(output.float(), y)
        (loss * optimizer.loss_scale).backward()
        optimizer.step()
        return loss.detach()

    return dict(model=model, optimizer=optimizer, step=step, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
