import copy

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "objective_out_of_reach"
ALSO_OK = {"unknown", "zero_advantage"}
SOURCE = "https://github.com/huggingface/trl/issues/1843"
FIX = "keep the reference as it is, or let it follow slowly"


class Preference(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.policy = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 6))
        self.reference = copy.deepcopy(self.policy)
        self.reference.requires_grad_(False)

    def forward(self, x, better, worse):
        logp = self.policy(x).log_softmax(1)
        with torch.no_grad():
            if not self.good:
                self.reference.load_state_dict(self.policy.state_dict())
            given = self.reference(x).log_softmax(1)
        ratio = logp - given
        gap = ratio.gather(1, better[:, None]) - ratio.gather(1, worse[:, None])
        return -F.logsigmoid(0.5 * gap).mean()


def _loss(model, batch):
    return model(*batch)


def _build(good):
    torch.manual_seed(806)
    liking = torch.randn(8, 6)
    batches = []
    for _ in range(80):
        x = torch.randn(32, 8)
        order = (x @ liking).argsort(1, descending=True)
        batches.append((x, order[:, 0], order[:, 3]))
    model = Preference(good)
    wanted = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.Adam(wanted, lr=3e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
