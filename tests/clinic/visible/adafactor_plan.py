"""The schedule made for Adafactor is built without an initial rate, which is then
0.0, and since relative steps are off it stays there. The loss of the T5 model is
nearly constant."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

CAUSE = "learning_rate_zero"
ALSO_OK = {"optimizer_misconfigured"}
SOURCE = "https://github.com/huggingface/transformers/issues/13033"
FIX = "give the schedule the learning rate as its initial_lr"

VOCAB, WIDTH, LENGTH = 24, 48, 10


class Adafactor(torch.optim.Optimizer):
    def __init__(self, params, lr, relative_step=False, decay_rate=-0.8, clip=1.0):
        super().__init__(
            params,
            dict(lr=lr, relative_step=relative_step, decay_rate=decay_rate, clip=clip),
        )

    @staticmethod
    def rate(group, state):
        if group["relative_step"]:
            return min(1e-2, state["step"] ** -0.5)
        return group["lr"]

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                state["step"] = state.get("step", 0) + 1
                beta = 1 - state["step"] ** group["decay_rate"]
                square = p.grad**2 + 1e-30
                if p.dim() == 2:
                    row = state.setdefault("row", torch.zeros_like(square[:, 0]))
                    col = state.setdefault("col", torch.zeros_like(square[0]))
                    row.mul_(beta).add_((1 - beta) * square.mean(1))
                    col.mul_(beta).add_((1 - beta) * square.mean(0))
                    second = row[:, None] * col[None] / row.mean()
                else:
                    second = state.setdefault("second", torch.zeros_like(square))
                    second.mul_(beta).add_((1 - beta) * square)
                update = p.grad / second.sqrt()
                rms = update.pow(2).mean().sqrt()
                update = update / (rms / group["clip"]).clamp(min=1.0)
                p.sub_(self.rate(group, state) * update)


class AdafactorSchedule(LambdaLR):
    def __init__(self, optimizer, initial_lr=0.0):
        for group in optimizer.param_groups:
            group["initial_lr"] = initial_lr
        super().__init__(optimizer, lambda _: initial_lr)

    def get_lr(self):
        opt = self.optimizer
        rates = [
            opt.rate(group, opt.state[group["params"][0]])
            for group in opt.param_groups
            if group["params"][0].grad is not None
        ]
        return rates or self.base_lrs


class Layer(nn.Module):
    def __init__(self, cross):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, 4, bias=False, batch_first=True)
        self.cross = (
            nn.MultiheadAttention(WIDTH, 4, bias=False, batch_first=True)
            if cross
            else None
        )
        self.norm2 = nn.LayerNorm(WIDTH)
        self.wi = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.wo = nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x, memory=None, mask=None):
        y = self.norm(x)
        x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
        if self.cross is not None:
            x = x + self.cross(x, memory, memory, need_weights=False)[0]
        return x + self.wo(F.relu(self.wi(self.norm2(x))))


class T5(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Embedding(VOCAB, WIDTH)
        self.pos = nn.Embedding(LENGTH, WIDTH)
        self.encoder = Layer(False)
        self.decoder = Layer(True)
        self.norm = nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, source, target):
        memory = self.encoder(self.shared(source) + self.pos.weight)
        before = F.pad(target[:, :-1], (1, 0))
        mask = torch.full((LENGTH, LENGTH), float("-inf")).triu(1)
        x = self.decoder(self.shared(before) + self.pos.weight, memory, mask)
        return self.lm_head(self.norm(x))


def _loss(model, batch):
    source, target = batch
    return F.cross_entropy(model(source, target).flatten(0, 1), target.flatten())


def _build(**options):
    torch.manual_seed(13033)
    word = torch.randperm(VOCAB)
    following = torch.softmax(2 * torch.randn(VOCAB, VOCAB), -1)
    batches = []
    for _ in range(120):
        text = torch.randint(VOCAB, (24, 1))
        for _ in range(LENGTH - 1):
            text = torch.cat([text, torch.multinomial(following[text[:, -1]], 1)], 1)
        batches.append((text, word[text]))
    model = T5()
    opt = Adafactor(model.parameters(), lr=3e-3, relative_step=False)
    plan = AdafactorSchedule(opt, **options)
    for group in opt.param_groups:
        del group["initial_lr"]
    return dict(
        model=model,
        loss=_loss,
        optimizer=opt,
        batches=batches,
        clip=1.0,
        scheduler=plan.step,
    )


def make():
    return _build()


def make_fixed():
    return _build(initial_lr=3e-3)
