"""A2C on a task with long episodes fits its value head to the returns as they are, some
hundreds below zero. The loss is around twenty thousand, and the policy cannot learn."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unscaled_target"
ALSO_OK = {"loss_terms_unbalanced"}
SOURCE = "https://github.com/openai/baselines/issues/362"
FIX = "normalize the returns"


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh()
        )
        self.pi = nn.Linear(64, 3)
        self.v = nn.Linear(64, 1)

    def forward(self, obs):
        x = self.trunk(obs)
        return self.pi(x), self.v(x).squeeze(1)


def _loss(model, batch):
    obs, outcome = batch
    logits, value = model(obs)
    logp = F.log_softmax(logits, dim=1)
    action = torch.multinomial(logp.detach().exp(), 1).squeeze(1)
    returns = outcome.gather(1, action[:, None]).squeeze(1)
    advantage = returns - value.detach()
    pg_loss = -(advantage * logp.gather(1, action[:, None]).squeeze(1)).mean()
    entropy = -(logp.exp() * logp).sum(1).mean()
    vf_loss = F.mse_loss(value, returns)
    return pg_loss + 0.5 * vf_loss - 0.01 * entropy


def _rollouts(count):
    height = torch.randn(6, 12) / 2
    weight = torch.randn(12)
    useful = torch.randn(6, 3)
    for _ in range(count):
        obs = torch.randn(80, 6)
        far = torch.tanh(obs @ height) @ weight
        gain = obs @ useful
        steps = 190 + 25 * far[:, None] - 10 * gain + 5 * torch.randn(80, 3)
        yield obs, -steps


def _build(normalize):
    torch.manual_seed(3621)
    batches = list(_rollouts(150))
    if normalize:
        returns = torch.cat([batch[1] for batch in batches])
        mean, std = returns.mean(), returns.std()
        batches = [(o, (r - mean) / std) for o, r in batches]
    model = ActorCritic()
    opt = torch.optim.RMSprop(model.parameters(), lr=7e-4, alpha=0.99, eps=1e-5)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
