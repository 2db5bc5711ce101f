"""The entropy bonus outweighs the advantage, and the policy stays uniform."""

import torch
from torch import nn

CAUSE = "loss_terms_unbalanced"
ALSO_OK = {"objective_out_of_reach"}
SOURCE = "https://github.com/davidADSP/SIMPLE/issues/35"
FIX = "a coefficient of 0.01"


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 48), nn.Tanh())
        self.policy, self.value = nn.Linear(48, 4), nn.Linear(48, 1)

    def forward(self, state):
        h = self.body(state)
        return self.policy(h).log_softmax(1), self.value(h).squeeze(1)


def _build(good):
    torch.manual_seed(919)
    best = torch.randn(6, 4)
    weight = 0.01 if good else 3.0

    def loss(model, state):
        log, value = model(state)
        with torch.no_grad():
            action = torch.multinomial(log.exp(), 1).squeeze(1)
            reward = (action == (state @ best).argmax(1)).float()
            advantage = reward - value
        chosen = log.gather(1, action[:, None]).squeeze(1)
        entropy = -(log.exp() * log).sum(1).mean()
        policy = -(advantage * chosen).mean()
        return policy + 0.5 * (value - reward).square().mean() - weight * entropy

    batches = [torch.randn(128, 6) for _ in range(100)]
    model = Agent()
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches, clip=0.5)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
