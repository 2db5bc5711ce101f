"""The adapters and the projector of a visual language model are tuned with ten times
the rate they bear. The loss falls for a while, then it jumps up and does not come
down again."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "lr_too_high"
ALSO_OK = set()
SOURCE = "https://github.com/haotian-liu/LLaVA/issues/1301"
FIX = "a learning rate ten times lower"

VOCAB, WIDTH, LENGTH, VISION = 32, 48, 16, 24
LR = 4e-2


class Adapted(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.base = nn.Linear(n_in, n_out)
        self.a = nn.Parameter(torch.randn(16, n_in) / n_in**0.5, False)
        self.b = nn.Parameter(torch.zeros(n_out, 16), False)

    def forward(self, x):
        return self.base(x) + 2 * (x @ self.a.T @ self.b.T)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = Adapted(WIDTH, 3 * WIDTH)
        self.out = Adapted(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.up = Adapted(WIDTH, 4 * WIDTH)
        self.down = Adapted(4 * WIDTH, WIDTH)

    def forward(self, x):
        b, t, _ = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, 4, WIDTH // 4)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Assistant(nn.Module):
    def __init__(self):
        super().__init__()
        self.projector = nn.Sequential(
            nn.Linear(VISION, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH)
        )
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.pos = nn.Parameter(0.02 * torch.randn(LENGTH + 1, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, image, ids):
        x = torch.cat([self.projector(image)[:, None], self.embed(ids)], 1)
        x = x + self.pos[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))[:, 1:]


def _loss(model, batch):
    image, ids = batch
    logits = model(image, ids[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _text(tables, which):
    ids = torch.randint(VOCAB, (len(which), 1))
    for _ in range(LENGTH):
        ids = torch.cat([ids, torch.multinomial(tables[which, ids[:, -1]], 1)], 1)
    return ids


def _build(lr):
    torch.manual_seed(1301)
    tables = torch.softmax(3 * torch.randn(3, VOCAB, VOCAB), -1)
    looks = torch.randn(3, VISION)
    model = Assistant()
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(40):
        opt.zero_grad()
        text = _text(tables, torch.zeros(16, dtype=torch.long))
        _loss(model, (torch.zeros(16, VISION), text)).backward()
        opt.step()
    model.requires_grad_(False)
    model.projector.requires_grad_(True)
    for name, p in model.named_parameters():
        if name.endswith((".a", ".b")):
            p.requires_grad_(True)
    batches = []
    for _ in range(120):
        which = torch.randint(1, 3, (16,))
        image = looks[which] + 0.3 * torch.randn(16, VISION)
        batches.append((image, _text(tables, which)))
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=lr)
    warm = torch.optim.lr_scheduler.LambdaLR(opt, lambda t: min(1.0, (t + 1) / 20))
    return dict(
        model=model,
        loss=_loss,
        optimizer=opt,
        batches=batches,
        clip=1.0,
        scheduler=warm.step,
    )


def make():
    return _build(LR)


def make_fixed():
    return _build(LR / 10)
