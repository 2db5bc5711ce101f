"""Supervised contrastive loss on single views (no augmentation), batch of 32: a sample
whose class occurs once has no positive, and the mean over its positives divides by
zero. The loss is nan for almost every batch."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/HobbitLong/SupContrast/issues/20"
FIX = "add a small value to the number of positives before dividing"

CLASSES = 12


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 16, 64),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))

    def forward(self, x):
        return F.normalize(self.head(self.trunk(x)), dim=1)


class SupConLoss(nn.Module):
    def __init__(self, temperature=0.1, eps=0.0):
        super().__init__()
        self.temperature = temperature
        self.eps = eps

    def forward(self, features, labels):
        batch, views = features.shape[:2]
        labels = labels.view(-1, 1)
        mask = torch.eq(labels, labels.T).float().repeat(views, views)
        contrast = torch.cat(torch.unbind(features, dim=1), dim=0)
        logits = contrast @ contrast.T / self.temperature
        logits = logits - logits.max(dim=1, keepdim=True)[0].detach()
        others = 1 - torch.eye(batch * views)
        mask = mask * others
        exp_logits = torch.exp(logits) * others
        log_prob = logits - torch.log(exp_logits.sum(1, keepdim=True))
        mean_log_prob_pos = (mask * log_prob).sum(1) / (mask.sum(1) + self.eps)
        return -mean_log_prob_pos.mean()


def _build(good):
    torch.manual_seed(411)
    shapes = torch.randn(CLASSES, 1, 8, 8)
    batches = []
    for _ in range(100):
        labels = torch.randint(CLASSES, (32,))
        batches.append((shapes[labels] + 1.5 * torch.randn(32, 1, 8, 8), labels))
    model = Encoder()
    criterion = SupConLoss(eps=1e-7 if good else 0.0)
    opt = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)

    def loss(model, batch):
        images, labels = batch
        return criterion(model(images).unsqueeze(1), labels)

    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
