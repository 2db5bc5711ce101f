import torch
from torch import nn
from torch.distributions import Categorical

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test, after common reports (PPO loss does not fall)"
FIX = "nothing: the surrogate of PPO does not measure success"


def make():
    torch.manual_seed(541)
    model = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 4))
    w = torch.randn(8, 4)
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    batches = [(torch.randn(128, 8), torch.rand(128, 1)) for _ in range(80)]

    def step(batch):
        obs, u = batch
        with torch.no_grad():
            p = model(obs).softmax(-1)
            act = (p.cumsum(-1) < u).sum(-1).clamp(max=3)
            old = Categorical(probs=p).log_prob(act)
        reward = (act == (obs @ w).argmax(1)).float()
        adv = (reward - reward.mean()) / (reward.std() + 1e-8)
        for _ in range(2):
            ratio = (Categorical(logits=model(obs)).log_prob(act) - old).exp()
            loss = -torch.min(ratio * adv, ratio.clamp(0.8, 1.2) * adv).mean()
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            opt.step()
        return loss

    return dict(model=model, step=step, optimizer=opt, batches=batches)


make_fixed = make
