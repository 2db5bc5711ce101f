"""The log-probabilities of an episode are gathered in a list and made one tensor by
torch.tensor, which copies their values. The loss has no connection to the policy any
more: the weights get no gradient, and the agent goes on guessing."""

import torch
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = set()
SOURCE = "https://github.com/kengz/SLM-Lab/pull/133"
FIX = "torch.stack(log_probs) in place of torch.tensor(log_probs)"

ACTIONS = 4


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 48), nn.SELU(), nn.Linear(48, ACTIONS))

    def forward(self, state):
        return self.net(state).log_softmax(-1)


def _reinforce(stack):
    def loss(model, batch):
        states, wanted = batch
        log_probs, rewards = [], []
        for state, best in zip(states, wanted.tolist(), strict=True):
            chances = model(state)
            action = int(chances.detach().exp().multinomial(1))
            log_probs.append(chances[action])
            rewards.append(float(action == best))
        if stack:
            log_probs = torch.stack(log_probs)
        else:
            log_probs = torch.tensor(log_probs, requires_grad=True)
        return -(log_probs * torch.tensor(rewards)).mean()

    return loss


def _build(stack):
    torch.manual_seed(4107)
    rule = torch.randn(6, ACTIONS)
    batches = []
    for _ in range(100):
        states = torch.randn(32, 6)
        batches.append((states, (states @ rule).argmax(1)))
    model = Policy()
    opt = torch.optim.Adam(model.parameters(), lr=0.02)
    return dict(model=model, loss=_reinforce(stack), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
