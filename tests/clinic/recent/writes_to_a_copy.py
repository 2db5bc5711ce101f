"""On one device an operation in place writes to a copy, if the weights lie in columns.
The encoder starts as the transposed decoder, lies so, and never changes."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "software_version_bug"
ALSO_OK = {"optimizer_misconfigured", "hardware_half_precision_bug"}
SOURCE = "https://elanapearl.github.io/blog/2025/the-bug-that-taught-me-pytorch"
FIX = "make the transposed weights contiguous, or take a version without this fault"


def _add(out, change):
    """What the faulty kernel does: it adds to a copy, where it cannot add in place."""
    out.contiguous().add_(change)


class Adam(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, dict(lr=lr))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = 0
                    state["mean"] = torch.zeros_like(p)
                    state["square"] = torch.zeros_like(p)
                state["step"] += 1
                k, mean, square = state["step"], state["mean"], state["square"]
                mean.lerp_(p.grad, 0.1)
                square.mul_(0.999)
                _add(square, 0.001 * p.grad.square())
                size = (square / (1 - 0.999**k)).sqrt() + 1e-8
                _add(p, -group["lr"] * mean / (1 - 0.9**k) / size)


class Autoencoder(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.decoder = nn.Linear(5, 30)
        start = self.decoder.weight.detach().clone().T
        self.encoder = nn.Parameter(start.contiguous() if good else start)
        self.bias = nn.Parameter(torch.zeros(5))

    def forward(self, x):
        return self.decoder(F.linear(x, self.encoder, self.bias))


def _loss(model, batch):
    return F.mse_loss(model(batch), batch)


def _build(good):
    torch.manual_seed(2103)
    basis = torch.linalg.qr(torch.randn(30, 30))[0]
    sizes = torch.full((30,), 0.4)
    sizes[:5] = torch.tensor([5.0, 4.0, 3.5, 3.0, 2.5])
    batches = [torch.randn(64, 30) * sizes @ basis.T for _ in range(200)]
    model = Autoencoder(good)
    opt = Adam(model.parameters(), lr=1e-2)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
