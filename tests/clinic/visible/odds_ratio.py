"""The odds ratio of the preference loss is computed as log1p(-exp(logp)) in bfloat16.
Once the chosen answer is nearly certain, the term has no finite value, and loss and
weights are not numbers any more."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/huggingface/trl/issues/3237"
FIX = "compute log(1 - exp(logp)) in float32 by a form that does not cancel"

VOCAB, WIDTH, PROMPT, ANSWER = 16, 64, 5, 6
BETA = 0.1


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


def _logps(model, ids):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids[:, :-1])[:, PROMPT - 1 :]
    logp = F.log_softmax(logits.float(), -1).to(logits.dtype)
    return logp.gather(-1, ids[:, PROMPT:, None])[..., 0].mean(1)


def _plain(chosen, rejected):
    return (chosen - rejected) - (
        torch.log1p(-torch.exp(chosen)) - torch.log1p(-torch.exp(rejected))
    )


def _log1mexp(x):
    cut = x > -0.6931472
    near = torch.log(-torch.expm1(torch.where(cut, x, -0.6931472)))
    far = torch.log1p(-torch.exp(torch.where(cut, -0.6931472, x)))
    return torch.where(cut, near, far)


def _stable(chosen, rejected):
    chosen, rejected = chosen.float(), rejected.float()
    return (chosen - rejected) - (_log1mexp(chosen) - _log1mexp(rejected))


def _build(log_odds):
    torch.manual_seed(3237)
    answers = torch.randint(VOCAB, (VOCAB, ANSWER))

    def loss(model, batch):
        chosen, rejected = _logps(model, batch[0]), _logps(model, batch[1])
        ratio = F.logsigmoid(log_odds(chosen, rejected))
        return -chosen.mean() - BETA * ratio.mean()

    batches = []
    for _ in range(120):
        prompt = torch.randint(VOCAB, (12, PROMPT))
        good = answers[prompt[:, -1]]
        bad = answers[torch.randint(VOCAB, (12,))]
        bad = torch.where(torch.rand(12, ANSWER) < 0.3, good, bad)
        batches.append((torch.cat([prompt, good], 1), torch.cat([prompt, bad], 1)))
    model = Policy()
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(_plain)


def make_fixed():
    return _build(_stable)
