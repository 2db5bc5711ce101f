"""The watcher, diagnose and lr_range_test with batches of graphs."""

import pytest
import torch
from conftest import CLIP
from torch import nn
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GCNConv, global_mean_pool

from gradlib import audit, diagnose, fit, lr_range_test, watch


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = GCNConv(3, 8), nn.Linear(8, 2)

    def forward(self, data):
        x = self.conv(data.x, data.edge_index).tanh()
        return self.head(global_mean_pool(x, data.batch))


def graph(index):
    draw = torch.Generator().manual_seed(index)
    ring = torch.stack([torch.arange(5), torch.arange(5).roll(1)])
    x = torch.randn(5, 3, generator=draw)
    return Data(x=x, edge_index=ring, y=(x[:, :1].mean(0) > 0).long())


@pytest.fixture
def model():
    return Network()


@pytest.fixture
def batches():
    return DataLoader([graph(k) for k in range(24)], batch_size=4)


def loss(model, data):
    return F.cross_entropy(model(data), data.y)


def train(model, optimizer, batches):
    # example
    with watch(model, optimizer) as watcher:
        for data in batches:
            optimizer.zero_grad()
            loss(model, data).backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
    # end
    return watcher


@pytest.mark.tool("watch", "six rows equal its norm before clipping")
def test_six_rows_equal_the_norms_before_clipping(model, batches, check_rows):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    history = train(model, optimizer, batches).history
    check_rows(history)


@pytest.mark.tool("diagnose", "names the cause")
@pytest.mark.parametrize(
    ("lr", "broken", "cause"),
    [(1.0, False, "healthy"), (100.0, False, "lr_too_high"), (1.0, True, "bad_data")],
)
def test_a_diagnosis(model, batches, lr, broken, cause):
    given = list(batches)
    if broken:
        given[2].x[1, 1] = float("nan")
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    assert diagnose(model, optimizer, given * 8, loss=loss).cause == cause


@pytest.mark.tool("fit, lr_range_test", "right")
def test_other_tools_take_its_batches(model, batches):
    found = lr_range_test(model, batches, loss=loss, steps=20)
    assert len(found.losses) == 20
    assert len(fit(model, batches, loss=loss, lr=0.1)["loss"]) == 6


@pytest.mark.tool("audit", "sees the layers of torch, not its own")
def test_an_audit_sees_the_layers_of_torch_only(model):
    assert [row.layer for row in audit(model)] == ["head"]
