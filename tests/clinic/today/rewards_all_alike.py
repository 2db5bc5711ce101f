import torch
from torch import nn
from torch.distributions import Categorical

CAUSE = "zero_advantage"
ALSO_OK = {"vanishing"}
SOURCE = "https://github.com/huggingface/trl/issues/2703 (same kind)"
FIX = "a reward that differs within a group"


def _build(good):
    torch.manual_seed(526)
    batches = [(torch.randn(16, 10), torch.rand(16, 8)) for _ in range(80)]
    model = nn.Sequential(nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, 6))
    opt = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)

    def step(batch):
        obs, u = batch
        group = obs.repeat_interleave(8, 0)
        with torch.no_grad():
            p = model(group).softmax(-1)
            act = (p.cumsum(-1) < u.flatten()[:, None]).sum(-1).clamp(max=5)
        right = (act == group[:, :6].argmax(1)).float()
        r = (right if good else 0 * right).view(16, 8)
        adv = (
            (r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + 1e-4)
        ).flatten()
        logp = Categorical(logits=model(group)).log_prob(act)
        loss = -((logp - logp.detach()).exp() * adv).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
