"""What the frameworks' tests share: a small task, and the norms that clipping saw."""

import os

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

os.environ["KERAS_BACKEND"] = "torch"
os.environ["HF_HUB_OFFLINE"] = "1"

CLIP = 1e-3


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "tool(names, outcome): what is tested, for the table of the book"
    )


def pytest_collection_modifyitems(items):
    """Put the tool and the outcome of each test into the report."""
    for item in items:
        if (marker := item.get_closest_marker("tool")) is not None:
            tool, outcome = marker.args
            item.user_properties += [("tool", tool), ("outcome", outcome)]


@pytest.fixture
def norms(monkeypatch):
    """What torch's clipping returns: the norm before, and it clips all of them."""
    found = []
    clip_grad_norm_ = nn.utils.clip_grad_norm_

    def clip(*arguments, **keywords):
        norm = clip_grad_norm_(*arguments, **keywords)
        found.append(float(norm))
        return norm

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", clip)
    return found


@pytest.fixture
def check_rows(norms):
    """Compares six rows with the norms before clipping, which all were far above it."""

    def check(history):
        assert history["gradient_norm"] == pytest.approx(norms, rel=1e-5)
        assert len(norms) == 6
        assert min(norms) > 10 * CLIP

    return check


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.fixture
def samples():
    """Two dozen samples of three classes: six batches of four."""
    x = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
    return x, x[:, :3].argmax(dim=1)


@pytest.fixture
def batches(samples):
    return DataLoader(TensorDataset(*samples), batch_size=4)
