"""Update RMS: against a loop by hand, and against what the optimizer then does."""

import copy
import math

import pytest
import torch
from networks import relu_network as network
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, NAdam, RAdam

from gradlib import update_rms, watch

BETA = 0.95
MAKERS = {
    "AdamW": lambda p: AdamW(p, lr=0.01, betas=(0.9, BETA), weight_decay=0.1),
    "Adam": lambda p: Adam(p, lr=0.01, betas=(0.9, BETA)),
    "Adam with decay": lambda p: Adam(p, lr=0.01, betas=(0.9, BETA), weight_decay=0.1),
    "amsgrad": lambda p: AdamW(p, lr=0.01, betas=(0.9, BETA), amsgrad=True),
    "fused": lambda p: AdamW(p, lr=0.01, betas=(0.9, BETA), fused=True),
    "NAdam": lambda p: NAdam(p, lr=0.01, betas=(0.9, BETA)),
    "RAdam": lambda p: RAdam(p, lr=0.01, betas=(0.9, BETA)),
}


def backward(model, seed, size=1.0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(6, 6, generator=draw)
    model.zero_grad()
    (size * F.cross_entropy(model(x), x[:, :3].argmax(dim=1))).backward()


@pytest.mark.parametrize("name", MAKERS)
def test_it_is_that_of_the_second_moment_after_the_step(name):
    """Before a step it tells what g^2 / v is once the optimizer has taken g in."""
    model = network()
    optimizer = MAKERS[name](model.parameters())
    for k in range(5):
        backward(model, k, size=20.0 if k == 3 else 1.0)
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        found = update_rms(model, optimizer)
        optimizer.step()
        for n, p in model.named_parameters():
            v = optimizer.state[p]["exp_avg_sq"] / (1 - BETA ** (k + 1))
            g = p.grad + 0.1 * before[n] if name == "Adam with decay" else p.grad
            ratio = g.square() / v.clamp(min=1e-16)
            assert found[n] == pytest.approx(ratio.mean().sqrt().item(), rel=1e-4)
        if k == 0:
            assert max(found.values()) == pytest.approx(1.0, abs=1e-4)
        if k == 3:
            bound = math.sqrt((1 - BETA**4) / (1 - BETA))
            assert 1.3 < max(found.values()) < bound


def test_by_hand():
    layer = nn.Linear(2, 1, bias=False)
    optimizer = AdamW(layer.parameters(), betas=(0.9, 0.5), eps=0.1)
    layer.weight.grad = torch.tensor([[1.0, 2.0]])
    optimizer.step()
    layer.weight.grad = torch.tensor([[3.0, 0.0]])
    v = [(0.5 * 0.5 * 1 + 0.5 * 9) / 0.75, (0.5 * 0.5 * 4) / 0.75]
    expected = math.sqrt((9 / v[0] + 0 / v[1]) / 2)
    assert update_rms(layer, optimizer) == {"weight": pytest.approx(expected)}
    layer.weight.grad = torch.zeros(1, 2)
    fresh = AdamW(layer.parameters(), eps=0.0)
    assert update_rms(layer, fresh) == {"weight": 0.0}


def test_nothing_changes():
    model = network()
    optimizer = AdamW(model.parameters())
    for k in range(2):
        backward(model, k)
        grads = [p.grad.clone() for p in model.parameters()]
        state = copy.deepcopy(optimizer.state_dict())
        update_rms(model, optimizer)
        after = optimizer.state_dict()["state"]
        assert after.keys() == state["state"].keys()
        for key, values in state["state"].items():
            assert all(torch.equal(values[n], after[key][n]) for n in values)
        assert all(map(torch.equal, grads, (p.grad for p in model.parameters())))
        optimizer.step()


@pytest.mark.parametrize("every", [1, 2])
def test_watch_records_it_after_clipping(every):
    model = network()
    optimizer = AdamW(model.parameters(), betas=(0.9, BETA))
    expected = []
    with watch(model, optimizer, update_rms_every=every) as watcher:
        for k in range(4):
            backward(model, k, size=10.0 if k == 2 else 1.0)
            nn.utils.clip_grad_norm_(model.parameters(), 0.01 * (k + 1))
            if k % every == 0:
                expected.append(update_rms(model, optimizer))
            optimizer.step()
    found = watcher.history.layers("update_rms")
    assert list(found) == [name for name, _ in model.named_parameters()]
    for name, values in found.items():
        assert values == pytest.approx([row[name] for row in expected], rel=1e-5)
    steps, _ = watcher.history.recorded("update_rms/0.weight")
    assert steps == list(range(0, 4, every))


@pytest.mark.parametrize("fused", [False, True])
def test_watch_under_a_scaler_reads_unscaled_gradients(fused):
    """A fused optimizer unscales within its step."""
    model = network()
    optimizer = AdamW(model.parameters(), betas=(0.9, BETA), fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    expected = []
    with watch(model, optimizer, update_rms_every=1, scaler=scaler) as watcher:
        for k in range(3):
            backward(model, k)
            expected.append(update_rms(model, optimizer))
            backward(model, k, size=scaler.scale(torch.ones(())).item())
            scaler.step(optimizer)
            scaler.update()
    for name, values in watcher.history.layers("update_rms").items():
        assert values == pytest.approx([row[name] for row in expected], rel=1e-4)


def test_optimizers_without_a_second_moment_are_refused():
    model = network()
    backward(model, 0)
    for optimizer in (
        SGD(model.parameters(), lr=0.1),
        torch.optim.Adamax(model.parameters()),
    ):
        message = (
            rf"expected one that keeps exp_avg_sq, .* got {type(optimizer).__name__}"
        )
        with pytest.raises(ValueError, match=message):
            update_rms(model, optimizer)
        with pytest.raises(ValueError, match=message):
            watch(model, optimizer, update_rms_every=1)
    with pytest.raises(ValueError, match="update_rms_every: expected a multiple of ev"):
        watch(model, AdamW(model.parameters()), every=2, update_rms_every=3)
    with pytest.raises(TypeError, match=r"optimizer: expected a torch\.optim"):
        update_rms(model, 3)
    model.zero_grad()
    with pytest.raises(ValueError, match=r"expected dense gradients .* got none"):
        update_rms(model, AdamW(model.parameters()))
