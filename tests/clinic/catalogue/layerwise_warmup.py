"""Each weight has its own optimizer, which steps in a hook during backward and clears
the gradient. The hook that steps the warmup asks for a gradient, finds none, and never
runs: the rate stays at its first value, zero."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "learning_rate_zero"
ALSO_OK = {"optimizer_misconfigured"}
SOURCE = "https://github.com/huggingface/transformers/issues/30371"
FIX = "step the scheduler of each weight without asking for its gradient"

WORDS, LENGTH, WIDTH = 24, 12, 32


class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(WORDS, WIDTH)
        self.pos = nn.Parameter(torch.randn(LENGTH, WIDTH) * 0.1)
        layer = nn.TransformerEncoderLayer(
            WIDTH, 4, 64, dropout=0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, WORDS)
        self.register_buffer(
            "ahead", torch.triu(torch.ones(LENGTH, LENGTH, dtype=torch.bool), 1)
        )

    def forward(self, ids):
        return self.head(self.blocks(self.tok(ids) + self.pos, mask=self.ahead))


class LayerWiseDummyOptimizer(torch.optim.Optimizer):
    def __init__(self, optimizer_dict):
        self.optimizer_dict = optimizer_dict
        super().__init__([torch.randn(1, 1)], {"lr": 1e-3})

    def zero_grad(self, set_to_none=True):
        pass

    def step(self, closure=None):
        pass


def layerwise(model, lr, warmup, ask):
    optimizers, schedulers = {}, {}
    for p in model.parameters():
        optimizers[p] = torch.optim.AdamW([p], lr=lr)

        def ramp(step):
            return min(1.0, step / warmup)

        schedulers[p] = torch.optim.lr_scheduler.LambdaLR(optimizers[p], ramp)

    def optimizer_hook(p):
        if p.grad is not None:
            optimizers[p].step()
            optimizers[p].zero_grad()

    def scheduler_hook(p):
        if not ask or p.grad is not None:
            schedulers[p].step()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(optimizer_hook)
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(scheduler_hook)
    return LayerWiseDummyOptimizer(optimizers)


def _loss(model, ids):
    return F.cross_entropy(model(ids[:, :-1]).transpose(1, 2), ids[:, 1:])


def _build(good):
    torch.manual_seed(402)
    table = torch.softmax(3 * torch.randn(WORDS, WORDS), dim=1)
    batches = []
    for _ in range(110):
        ids = torch.randint(WORDS, (24, 1))
        for _ in range(LENGTH):
            ids = torch.cat([ids, torch.multinomial(table[ids[:, -1]], 1)], dim=1)
        batches.append(ids)
    model = LM()
    opt = layerwise(model, lr=4e-3, warmup=15, ask=not good)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
