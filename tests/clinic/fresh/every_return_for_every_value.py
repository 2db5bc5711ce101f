"""Values of shape (batch,) are subtracted from returns of shape (batch, 1)."""

import torch
from torch import nn

CAUSE = "shape_mismatch"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/RLinf/RLinf/issues/1568"
FIX = "values of shape (batch, 1), like the returns"


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 64), nn.Tanh())
        self.policy, self.value = nn.Linear(64, 3), nn.Linear(64, 1)

    def forward(self, state):
        h = self.body(state)
        return self.policy(h).log_softmax(1), self.value(h).squeeze(1)


def _build(good):
    torch.manual_seed(924)
    rule, best = torch.randn(6, 1), torch.randn(6, 3)

    def loss(model, batch):
        state, action, advantage, returns, before = batch
        log, value = model(state)
        if good:
            value = value[:, None]
        ratio = (log.gather(1, action) - before).exp()
        kept = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        return (returns - value).square().mean() / 2 - kept.mean()

    batches = []
    for _ in range(100):
        state = torch.randn(64, 6)
        action = torch.randint(0, 3, (64, 1))
        won = (action == (state @ best).argmax(1, keepdim=True)).float()
        returns = 2 * torch.sin(state @ rule / 2) + won
        before = torch.full((64, 1), -1.0986)
        batches.append((state, action, won - 1 / 3, returns, before))
    model = Agent()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches, clip=0.5)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
