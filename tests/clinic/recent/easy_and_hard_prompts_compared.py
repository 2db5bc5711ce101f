"""Rewards are centered over all prompts, not over the answers to one.
What tells prompts apart outweighs what tells answers apart, and little is learned."""

import torch
from torch import nn

CAUSE = "wrong_axis"
ALSO_OK = set()
SOURCE = "https://github.com/XU-YIJIE/grpo-flat/issues/2"
FIX = "bring the rewards to rows of one prompt each, and center along the row"

PROMPTS, ANSWERS, CHOICES = 8, 8, 8


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, CHOICES))

    def forward(self, x):
        return self.body(x).log_softmax(1)


def _build(good):
    torch.manual_seed(2114)
    right, ease = torch.randn(10, CHOICES), torch.randn(10)
    batches = [torch.randn(PROMPTS, 10) for _ in range(200)]

    def loss(model, prompts):
        logp = model(prompts)
        with torch.no_grad():
            choice = torch.multinomial(logp.exp(), ANSWERS, replacement=True)
            won = (choice == (prompts @ right).argmax(1, keepdim=True)).float()
            reward = (won + 4 * (prompts @ ease)[:, None]).flatten()
            if good:
                reward = reward.view(PROMPTS, ANSWERS)
                gain = reward - reward.mean(1, keepdim=True)
                gain = gain / (reward.std(1, keepdim=True) + 1e-4)
            else:
                gain = (reward - reward.mean(0)) / (reward.std(0) + 1e-4)
                gain = gain.view(PROMPTS, ANSWERS)
        return -(gain * logp.gather(1, choice)).mean()

    model = Policy()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
