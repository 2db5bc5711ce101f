"""The prepared scheduler steps once per process at every update, though its length
counts updates. After an eighth of the run the rate is zero, and the model is not
updated any more."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "learning_rate_zero"
ALSO_OK = {"optimizer_misconfigured"}
SOURCE = "https://github.com/jzhang38/EasyContext/issues/21"
FIX = "multiply the warmup steps and the training steps by the number of processes"

VOCAB = 32
LENGTH = 40
STEPS = 120
PROCESSES = 8


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.input_norm = nn.RMSNorm(width)
        self.post_norm = nn.RMSNorm(width)
        self.qkv_proj = nn.Linear(width, 3 * width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.gate_proj = nn.Linear(width, 2 * width, bias=False)
        self.up_proj = nn.Linear(width, 2 * width, bias=False)
        self.down_proj = nn.Linear(2 * width, width, bias=False)

    def forward(self, x):
        b, t, c = x.shape
        qkv = self.qkv_proj(self.input_norm(x)).view(b, t, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o_proj(y.transpose(1, 2).reshape(b, t, c))
        h = self.post_norm(x)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


class Llama(nn.Module):
    def __init__(self, width=40, heads=4, layers=2):
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCAB, width)
        self.embed_positions = nn.Embedding(LENGTH, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.lm_head = nn.Linear(width, VOCAB, bias=False)
        nn.init.normal_(self.embed_tokens.weight, std=0.1)
        nn.init.normal_(self.embed_positions.weight, std=0.1)

    def forward(self, ids):
        x = self.embed_tokens(ids) + self.embed_positions(torch.arange(ids.shape[1]))
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


def linear_schedule(optimizer, num_warmup_steps, num_training_steps):
    def factor(step):
        if step < num_warmup_steps:
            return step / max(1, num_warmup_steps)
        left = num_training_steps - step
        return max(0.0, left / max(1, num_training_steps - num_warmup_steps))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


class AcceleratedScheduler:
    def __init__(self, scheduler, num_processes):
        self.scheduler = scheduler
        self.num_processes = num_processes

    def step(self):
        for _ in range(self.num_processes):
            self.scheduler.step()


def _loss(model, ids):
    logits = model(ids[:, :-1])
    return F.cross_entropy(logits.reshape(-1, VOCAB), ids[:, 1:].reshape(-1))


def _book(table, rows):
    now = torch.randint(VOCAB, (rows,))
    out = [now]
    for _ in range(LENGTH):
        now = torch.multinomial(table[now], 1).squeeze(1)
        out.append(now)
    return torch.stack(out, 1)


def _build(times):
    torch.manual_seed(5333)
    table = torch.softmax(3 * torch.randn(VOCAB, VOCAB), 1)
    batches = [_book(table, 8) for _ in range(STEPS)]
    model = Llama()
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    inner = linear_schedule(opt, 4 * times, STEPS * times)
    scheduler = AcceleratedScheduler(inner, PROCESSES)
    return dict(
        model=model,
        loss=_loss,
        optimizer=opt,
        batches=batches,
        clip=1.0,
        scheduler=scheduler.step,
    )


def make():
    return _build(1)


def make_fixed():
    return _build(PROCESSES)
