"""LoRA training where the converter that runs at each save injects a second adapter
and thereby switches off the gradient of the one in training. The loss falls until the
first save, then the gradient norm is zero and the loss stays where it is."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "frozen_parameters"
ALSO_OK = {"software_version_bug"}
SOURCE = "https://github.com/modelscope/ms-swift/pull/9452"
FIX = "note requires_grad of all parameters before the save and restore it after"

VOCAB, LENGTH, WIDTH = 48, 20, 48


class LoraLinear(nn.Module):
    def __init__(self, base, rank):
        super().__init__()
        self.base = base
        for p in base.parameters():
            p.requires_grad_(False)
        self.rank = rank
        self.adapters = nn.ModuleDict()
        self.active = "default"
        self.add("default")

    def add(self, name, inference_mode=False):
        pair = nn.Sequential(
            nn.Linear(self.base.in_features, self.rank, bias=False),
            nn.Linear(self.rank, self.base.out_features, bias=False),
        )
        nn.init.zeros_(pair[1].weight)
        self.adapters[name] = pair
        self.set_adapter(self.active, inference_mode)

    def set_adapter(self, active, inference_mode=False):
        for name, pair in self.adapters.items():
            for p in pair.parameters():
                p.requires_grad_(name == active and not inference_mode)
        self.active = active

    def forward(self, x):
        return self.base(x) + 2.0 * self.adapters[self.active](x)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.up = nn.Linear(WIDTH, 3 * WIDTH)
        self.down = nn.Linear(3 * WIDTH, WIDTH)

    def forward(self, x):
        b, n, w = x.shape
        q, k, v = self.qkv(self.n1(x)).view(b, n, 3, 4, -1).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(a.transpose(1, 2).reshape(b, n, w))
        return x + self.down(F.gelu(self.up(self.n2(x))))


class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(VOCAB, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)
        self.input_grads = False

    def forward(self, ids):
        x = self.tok(ids)
        if self.input_grads:
            x = x.requires_grad_(True)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def add_lora(model, rank):
    for p in model.parameters():
        p.requires_grad_(False)
    model.input_grads = True
    for block in model.blocks:
        for name in ("qkv", "out", "up", "down"):
            setattr(block, name, LoraLinear(getattr(block, name), rank))


def lora_layers(model):
    return [m for m in model.modules() if isinstance(m, LoraLinear)]


class Saver:
    def __init__(self, model, every, keep_flags):
        self.model, self.every, self.keep_flags = model, every, keep_flags
        self.step = 0
        self.saved = {}

    def __call__(self):
        self.step += 1
        if self.step % self.every:
            return
        flags = {n: p.requires_grad for n, p in self.model.named_parameters()}
        for layer in lora_layers(self.model):
            layer.add("initial", inference_mode=True)
        self.saved = {
            n: p.detach().clone()
            for n, p in self.model.named_parameters()
            if ".default." in n
        }
        for layer in lora_layers(self.model):
            del layer.adapters["initial"]
        if self.keep_flags:
            for n, p in self.model.named_parameters():
                p.requires_grad_(flags[n])


def _loss(model, batch):
    logits = model(batch[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def _build(keep_flags):
    torch.manual_seed(945)
    follow = torch.randint(0, VOCAB, (VOCAB, 3))
    batches = []
    for _ in range(100):
        ids = torch.randint(0, VOCAB, (16, LENGTH))
        for t in range(1, LENGTH):
            pick = torch.randint(0, 3, (16,))
            ids[:, t] = follow[ids[:, t - 1], pick]
        batches.append(ids)
    model = LM()
    add_lora(model, 8)
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=4e-3, weight_decay=0.0)
    return dict(
        model=model,
        loss=_loss,
        optimizer=opt,
        batches=batches,
        clip=1.0,
        scheduler=Saver(model, 25, keep_flags),
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
