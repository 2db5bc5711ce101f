import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = {"optimizer_misconfigured", "zero_grad_misplaced"}
SOURCE = "https://github.com/wangle53/CSA-CDGAN/issues/5"
FIX = "detach the fakes for the discriminator only, not its answer for the generator"


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
        self.critic = nn.Sequential(
            nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1)
        )


def _build(good):
    torch.manual_seed(719)
    pair = Pair()
    first = torch.optim.Adam(pair.generator.parameters(), lr=2e-3, betas=(0.5, 0.9))
    second = torch.optim.Adam(pair.critic.parameters(), lr=2e-3, betas=(0.5, 0.9))
    angles = [6.3 * torch.rand(64) for _ in range(100)]
    batches = [torch.stack([a.cos(), a.sin()], 1) + 1 for a in angles]
    bce = F.binary_cross_entropy_with_logits

    def step(real):
        fake = pair.generator(torch.randn(len(real), 4))
        on_real, on_fake = pair.critic(real), pair.critic(fake.detach())
        loss = bce(on_real, torch.ones_like(on_real))
        loss = loss + bce(on_fake, torch.zeros_like(on_fake))
        second.zero_grad()
        loss.backward()
        second.step()
        answer = pair.critic(fake)
        if not good:
            answer = answer.detach()
        size = fake.square().sum(1).mean()
        fooled = bce(answer, torch.ones_like(answer)) + 0.0 * size
        first.zero_grad()
        fooled.backward()
        first.step()
        return loss.item()

    return dict(model=pair, step=step, optimizer=first, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
