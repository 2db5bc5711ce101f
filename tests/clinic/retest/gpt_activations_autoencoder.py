"""An autoencoder for the activations of a GPT is trained with the first version of
ADOPT. Entries whose first gradient was zero are then divided by next to nothing, and
the losses blow up within the first epoch."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "optimizer_misconfigured"
ALSO_OK = {"lr_too_high"}
SOURCE = "https://github.com/iShohei220/adopt/issues/10"
FIX = "bound the normalized gradient by step ** 0.25, as the updated version does"

WIDTH = 24
FEATURES = 96


class ADOPT(torch.optim.Optimizer):
    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.9999), eps=1e-6, clip_lambda=None
    ):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps))
        self.clip_lambda = clip_lambda

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
                if state["step"] == 0:
                    state["exp_avg_sq"].addcmul_(p.grad, p.grad)
                    state["step"] = 1
                    continue
                denom = state["exp_avg_sq"].sqrt().clamp(min=group["eps"])
                normed = p.grad / denom
                if self.clip_lambda is not None:
                    bound = self.clip_lambda(state["step"])
                    normed.clamp_(-bound, bound)
                state["exp_avg"].lerp_(normed, 1 - beta1)
                p.add_(state["exp_avg"], alpha=-group["lr"])
                state["exp_avg_sq"].mul_(beta2).addcmul_(
                    p.grad, p.grad, value=1 - beta2
                )
                state["step"] += 1


class AutoEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(WIDTH, FEATURES)
        self.decoder = nn.Linear(FEATURES, WIDTH)
        nn.init.constant_(self.encoder.bias, -0.5)

    def forward(self, x):
        code = F.relu(self.encoder(x))
        return self.decoder(code), code


def _loss(model, x):
    out, code = model(x)
    return F.mse_loss(out, x) + 1e-3 * code.abs().mean()


def _build(clip_lambda):
    torch.manual_seed(5322)
    directions = F.normalize(torch.randn(40, WIDTH), dim=1)
    batches = []
    for _ in range(120):
        strength = torch.rand(32, 40) * (torch.rand(32, 40) < 0.1)
        batches.append(2 * strength @ directions)
    model = AutoEncoder()
    opt = ADOPT(model.parameters(), lr=3e-3, clip_lambda=clip_lambda)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(None)


def make_fixed():
    return _build(lambda step: step**0.25)
