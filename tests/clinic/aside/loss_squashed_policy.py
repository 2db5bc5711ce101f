import torch
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/philtabor/Actor-Critic-Methods-Paper-To-Code/issues/7"
FIX = "take the tanh before the scaling by 2 inside the logarithm"


def _build(good):
    torch.manual_seed(112)

    def loss(model, batch):
        mu, log_std = model(batch[0]).chunk(2, 1)
        raw = mu + torch.randn_like(mu) * log_std.clamp(-4, 1).exp()
        squashed = torch.tanh(raw)
        action = 2 * squashed
        inside = (1 - squashed**2) if good else (1 - action**2 + 1e-6)
        log_prob = -log_std.clamp(-4, 1) - torch.log(inside + 1e-6)
        return ((action - batch[1]) ** 2).mean() + 0.01 * log_prob.mean()

    w = torch.randn(6, 2) / 3
    batches = []
    for _ in range(60):
        x = torch.randn(32, 6)
        batches.append((x, 1.5 * torch.tanh(x @ w)))
    model = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 4))
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
