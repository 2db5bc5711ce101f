"""The actor's micro batch is larger than what one worker gets of the mini batch, so
the number of accumulation steps comes out as zero. The loss looks normal, the
gradient is not a number, and the policy stays as it was."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/verl-project/verl/issues/2505"
FIX = "choose the micro batch no larger than the mini batch of one worker"

VOCAB, WIDTH, PROMPT, ANSWER = 12, 48, 6, 2


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x):
        b, t, _ = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, 4, WIDTH // 4)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, WIDTH))
        return x + self.mlp(self.norm2(x))


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.pos = nn.Embedding(PROMPT + ANSWER, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB)

    def forward(self, ids):
        x = self.embed(ids) + self.pos.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def logps(self, ids):
        logits = self(ids[:, :-1])[:, PROMPT - 1 :]
        logp = F.log_softmax(logits, -1)
        return logp.gather(-1, ids[:, PROMPT:, None])[..., 0]


@torch.no_grad()
def _rollout(policy, group):
    prompt = torch.randint(VOCAB, (16, PROMPT)).repeat_interleave(group, 0)
    ids = prompt
    for _ in range(ANSWER):
        probs = torch.softmax(policy(ids)[:, -1], -1)
        ids = torch.cat([ids, torch.multinomial(probs, 1)], 1)
    hit = (ids[:, PROMPT:] % 2 == prompt[:, -1:] % 2).float().mean(1)
    hit = hit.view(-1, group)
    adv = (hit - hit.mean(1, keepdim=True)) / (hit.std(1, keepdim=True) + 1e-6)
    return ids, policy.logps(ids), adv.flatten()


class Actor:
    def __init__(self, policy, opt, mini_batch, workers, micro_batch):
        self.policy, self.opt = policy, opt
        self.micro_batch = micro_batch
        self.accumulation = mini_batch // workers // micro_batch

    def update(self, batch):
        self.opt.zero_grad()
        total, parts = 0.0, 0
        for ids, old, adv in zip(
            *(x.split(self.micro_batch) for x in batch), strict=True
        ):
            ratio = torch.exp(self.policy.logps(ids) - old)
            adv = adv[:, None]
            clipped = ratio.clamp(0.8, 1.2)
            loss = -torch.minimum(ratio * adv, clipped * adv).mean()
            (loss / self.accumulation).backward()
            total, parts = total + loss.item(), parts + 1
        norm = nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        if torch.isfinite(norm):
            self.opt.step()
        return total / parts


def _build(micro_batch):
    torch.manual_seed(2505)
    policy = Policy()
    batches = [_rollout(policy, 4) for _ in range(120)]
    opt = torch.optim.AdamW(policy.parameters(), lr=2e-3)
    actor = Actor(policy, opt, mini_batch=256, workers=4, micro_batch=micro_batch)
    return dict(model=policy, optimizer=opt, batches=batches, step=actor.update)


def make():
    return _build(128)


def make_fixed():
    return _build(16)
