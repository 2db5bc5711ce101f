"""The notebook copies a trained network twice, once for LoRA and once for DoRA, and the
DoRA run is given the optimizer of the LoRA copy. The loss of DoRA does not move."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "optimizer_misconfigured"
ALSO_OK = set()
SOURCE = "https://github.com/rasbt/dora-from-scratch/pull/1"
FIX = "build the optimizer from the parameters of the DoRA model"

FEATURES, CLASSES = 24, 8


class MultilayerPerceptron(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, CLASSES),
        )

    def forward(self, x):
        return self.layers(x)


class LoRALayer(nn.Module):
    def __init__(self, in_dim, out_dim, rank, alpha):
        super().__init__()
        self.A = nn.Parameter(torch.randn(in_dim, rank) / rank**0.5)
        self.B = nn.Parameter(torch.zeros(rank, out_dim))
        self.alpha = alpha

    def forward(self, x):
        return self.alpha * (x @ self.A @ self.B)


class LinearWithLoRA(nn.Module):
    def __init__(self, linear, rank=4, alpha=2):
        super().__init__()
        self.linear = linear
        self.lora = LoRALayer(linear.in_features, linear.out_features, rank, alpha)

    def forward(self, x):
        return self.linear(x) + self.lora(x)


class LinearWithDoRA(LinearWithLoRA):
    def __init__(self, linear, rank=4, alpha=2):
        super().__init__(linear, rank, alpha)
        self.m = nn.Parameter(linear.weight.norm(p=2, dim=0, keepdim=True))

    def forward(self, x):
        lora = self.lora.alpha * (self.lora.A @ self.lora.B)
        moved = self.linear.weight + lora.T
        direction = moved / moved.norm(p=2, dim=0, keepdim=True)
        return F.linear(x, self.m * direction, self.linear.bias)


def _adapt(model, kind):
    model = copy.deepcopy(model)
    for i in (0, 2, 4):
        model.layers[i] = kind(model.layers[i])
        for p in model.layers[i].linear.parameters():
            p.requires_grad_(False)
    return model


def _loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def _build(good):
    torch.manual_seed(4107)
    centers = torch.randn(CLASSES, FEATURES)
    names = torch.roll(torch.arange(CLASSES), 3)
    batches = []
    for _ in range(120):
        y = torch.randint(CLASSES, (64,))
        batches.append((centers[y] + torch.randn(64, FEATURES), names[y]))
    pretrained = MultilayerPerceptron()
    opt = torch.optim.Adam(pretrained.parameters(), lr=5e-3)
    for _ in range(80):
        y = torch.randint(CLASSES, (64,))
        opt.zero_grad()
        _loss(pretrained, (centers[y] + torch.randn(64, FEATURES), y)).backward()
        opt.step()
    model_lora = _adapt(pretrained, LinearWithLoRA)
    model_dora = _adapt(pretrained, LinearWithDoRA)
    trained = model_dora if good else model_lora
    opt = torch.optim.Adam(trained.parameters(), lr=5e-3)
    return dict(model=model_dora, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
