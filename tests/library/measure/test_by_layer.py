"""Norms and angles against NumPy and torch, and their laws."""

import copy
import math
from collections.abc import Callable

import naive_forms
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from networks import network_with_gradients as network
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.testing import assert_close

from gradlib.errors import NonFiniteGradientError
from gradlib.measure import (
    checked_gradients,
    gradient_angle,
    gradient_norms,
    parameter_norms,
    snapshot,
    total_norm,
    update_norms,
    update_ratios,
)
from gradlib.measure.tensors import on_one_device

SIZES = st.floats(-1e3, 1e3).map(lambda x: 0.0 if abs(x) < 1e-3 else x)
VECTORS = arrays(np.float64, 5, elements=SIZES)


def double(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


# Norms


def test_norms_are_those_of_numpy() -> None:
    net = network()
    before = snapshot(net)
    with torch.no_grad():
        for p in net.parameters():
            p -= 0.1 * p.grad
    named = dict(net.named_parameters())
    expected = {
        gradient_norms: {n: np.linalg.norm(double(p.grad)) for n, p in named.items()},
        parameter_norms: {n: np.linalg.norm(double(p)) for n, p in named.items()},
    }
    for measure, norms in expected.items():
        assert measure(net) == pytest.approx(norms, rel=1e-6)
    updates = {n: np.linalg.norm(double(p - before[n])) for n, p in named.items()}
    assert update_norms(net, before) == pytest.approx(updates, rel=1e-6)
    assert list(update_norms(net, before)) == list(named)
    sizes = {n: np.linalg.norm(double(b)) for n, b in before.items()}
    ratios = {n: u / sizes[n] if sizes[n] else math.inf for n, u in updates.items()}
    assert update_ratios(net, before) == pytest.approx(ratios, rel=1e-6)


@pytest.mark.parametrize("order", [1.0, 2.0, 3.5, math.inf])
def test_total_norm_is_that_of_torch(order: float) -> None:
    net = network()
    ours = total_norm(net.parameters(), order)
    theirs = get_total_norm([p.grad for p in net.parameters()], order)
    assert_close(ours, theirs, rtol=0, atol=0)
    naive = naive_forms.total_norm([double(p.grad) for p in net.parameters()], order)
    assert ours.item() == pytest.approx(naive)


@given(VECTORS, SIZES)
@settings(deadline=None)
def test_norms_are_homogeneous(vector: np.ndarray, factor: float) -> None:
    a = nn.Linear(5, 1, bias=False).double()
    b = copy.deepcopy(a)
    a.weight.grad = torch.tensor(vector)[None]
    b.weight.grad = torch.tensor(factor * vector)[None]
    expected = abs(factor) * gradient_norms(a)["weight"]
    assert gradient_norms(b)["weight"] == pytest.approx(expected, rel=1e-9)


@given(st.lists(VECTORS, min_size=1, max_size=4))
@settings(deadline=None)
def test_total_is_the_norm_of_the_norms(vectors: list[np.ndarray]) -> None:
    net = nn.ParameterList([torch.zeros(5, dtype=torch.float64) for _ in vectors])
    for p, v in zip(net, vectors, strict=True):
        p.grad = torch.tensor(v)
    norms = list(gradient_norms(net).values())
    total = total_norm(net.parameters()).item()
    assert total == pytest.approx(np.linalg.norm(norms))
    assert max(norms) <= total * (1 + 1e-12) <= sum(norms) * (1 + 1e-11)


@pytest.mark.parametrize("size", [1e-40, 1e-30, 1e-18, 1e18, 1e25, 1e38])
def test_norms_over_the_whole_range_of_float32(size: float) -> None:
    layer = nn.Linear(2, 1)
    layer.weight.grad = torch.tensor([[3.0, -2.0]]) * size
    layer.bias.grad = torch.ones(1)
    stored = np.linalg.norm(double(layer.weight.grad))
    expected = {"weight": stored, "bias": 1.0}
    assert gradient_norms(layer) == pytest.approx(expected, rel=1e-6, abs=0)


def test_half_precision_sparse_and_empty() -> None:
    half = nn.Linear(4, 4, bias=False).half()
    half.weight.grad = torch.full_like(half.weight, 60000.0)
    assert gradient_norms(half) == pytest.approx({"weight": 240000.0})
    assert total_norm(half.parameters()).dtype is torch.float32
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1, 1])).sum().backward()
    assert gradient_norms(table)["weight"] == pytest.approx(8**0.5)
    hollow = nn.ParameterDict({"empty": torch.zeros(0, 2)})
    assert parameter_norms(hollow) == {"empty": 0.0}


def test_broken_gradients_are_reported_as_they_are() -> None:
    layer = nn.Linear(1, 1)
    layer.weight.grad = torch.tensor([[math.nan]])
    layer.bias.grad = torch.tensor([-math.inf])
    norms = gradient_norms(layer)
    assert math.isnan(norms["weight"])
    assert norms["bias"] == math.inf


def test_parameters_without_gradient_are_left_out() -> None:
    net = network()
    net[0].weight.grad = None
    assert "0.weight" not in gradient_norms(net)
    assert "0.weight" in parameter_norms(net)


def test_ratios_of_parameters_at_zero() -> None:
    layer = nn.Linear(1, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    before = snapshot(layer)
    nn.init.ones_(layer.weight)
    assert update_ratios(layer, before) == {"weight": math.inf, "bias": 0.0}


def test_a_snapshot_is_a_copy() -> None:
    net = network()
    before = snapshot(net)
    nn.init.ones_(net[0].weight)
    assert not before["0.weight"].requires_grad
    assert not torch.equal(before["0.weight"], net[0].weight)


@pytest.mark.usefixtures("accelerator")
def test_one_read_for_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    for name in ("item", "tolist", "__float__", "__bool__"):
        read = getattr(Tensor, name)
        monkeypatch.setattr(
            Tensor, name, lambda *a, n=name, r=read: (reads.append(n), r(*a))[1]
        )
    net = network()
    for p in net.parameters():
        nn.init.normal_(p)
    before = {name: torch.ones_like(p) for name, p in net.named_parameters()}
    gradient_norms(nn.Sequential(net[0], net[3]))
    parameter_norms(net)
    update_norms(net, before)
    update_ratios(net, before)
    checked_gradients(net.parameters())
    assert reads == ["tolist"] * 4 + ["item"]
    total_norm(net.parameters())
    assert len(reads) == 5


def test_checked_gradients_share_memory_and_name_what_is_broken() -> None:
    net = network()
    gradients, norm = checked_gradients(net.named_parameters())
    assert [g.data_ptr() for g in gradients] == [
        p.grad.data_ptr() for p in net.parameters()
    ]
    assert_close(norm, total_norm(net.parameters()))
    net[3].bias.grad[1] = math.inf
    with pytest.raises(NonFiniteGradientError, match=r"inf in the gradient of 3\.bias"):
        checked_gradients(net.named_parameters())


# Angles


@given(VECTORS, VECTORS)
@settings(deadline=None)
def test_angle_is_that_of_numpy(a: np.ndarray, b: np.ndarray) -> None:
    assume(min(np.linalg.norm(a), np.linalg.norm(b)) > 0)
    angle = gradient_angle(torch.tensor(a), torch.tensor(b))
    assert angle == pytest.approx(naive_forms.angle(a, b), abs=1e-5)


@given(VECTORS, VECTORS, st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_laws_of_angles(a: np.ndarray, b: np.ndarray, factor: float) -> None:
    assume(min(np.linalg.norm(a), np.linalg.norm(b)) > 0)
    u, v = torch.tensor(a), torch.tensor(b)
    angle = gradient_angle(u, v)
    assert 0 <= angle <= 180
    assert gradient_angle(v, u) == pytest.approx(angle, abs=1e-9)
    assert gradient_angle(factor * u, v) == pytest.approx(angle, abs=1e-9)
    assert gradient_angle(-u, v) == pytest.approx(180 - angle, abs=1e-9)
    assert gradient_angle([u[:2], u[2:]], v) == pytest.approx(angle, abs=1e-9)


def test_small_angles_are_exact() -> None:
    tiny = 1e-9
    a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    b = torch.tensor([1.0, tiny], dtype=torch.float64)
    assert gradient_angle(a, b) == pytest.approx(math.degrees(tiny), rel=1e-6)


# Messages


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: gradient_norms(nn.Linear(1, 1)), ValueError, "none in Linear. Call"),
        (lambda m: gradient_norms(nn.ReLU()), ValueError, "got ReLU without any"),
        (lambda m: parameter_norms("net"), TypeError, "torch.nn.Module, got str"),
        (lambda m: snapshot(nn.Sequential()), ValueError, "without any"),
        (lambda m: update_norms(m, None), TypeError, "snapshot of a model, got None"),
        (
            lambda m: update_norms(m, snapshot(nn.Linear(3, 4))),
            ValueError,
            r"differs in 0\.bias, 0\.weight",
        ),
        (
            lambda m: update_ratios(nn.Linear(2, 1), snapshot(nn.Linear(3, 1))),
            ValueError,
            r"shape \(1, 2\) for weight, got \(1, 3\)",
        ),
        (lambda m: total_norm([]), ValueError, "at least one, got none"),
        (lambda m: total_norm(m), TypeError, "got Sequential. Pass"),
        (lambda m: total_norm(m.parameters(), 0), ValueError, "norm_type: expected"),
        (
            lambda m: gradient_angle(torch.ones(2), torch.ones(3)),
            ValueError,
            "as many numbers in both, got 2 and 3",
        ),
        (
            lambda m: gradient_angle(torch.zeros(2), torch.ones(2)),
            ValueError,
            "a: expected a direction, got a gradient of norm 0.0",
        ),
        (
            lambda m: gradient_angle(torch.ones(1), torch.tensor([math.nan])),
            ValueError,
            "b: expected a direction, got a gradient of norm nan",
        ),
        (
            lambda m: update_norms(m, dict.fromkeys(snapshot(m), 1.0)),
            TypeError,
            r"before\['.*'\]: expected Tensor, got float",
        ),
        (lambda m: gradient_angle([], []), ValueError, "one or more tensors, got"),
    ],
)
def test_messages(
    call: Callable[[nn.Module], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(network())


@pytest.mark.parametrize("shapes", [((2, 3), (3, 3)), ((3, 3), (2, 3))])
def test_a_snapshot_of_another_shape_is_refused(shapes):
    model = nn.Linear(1, 1, bias=False)
    model.weight = nn.Parameter(torch.zeros(shapes[0]))
    with pytest.raises(ValueError, match="before: expected shape"):
        update_norms(model, {"weight": torch.zeros(shapes[1])})


class Distant:
    """Stands for a tensor on one of several devices."""

    def __init__(self, device):
        self.device = device

    def get_device(self):
        return self.device

    def to(self, device):
        return Distant(device)


@pytest.mark.parametrize("devices", [[0], [0, 0], [0, 1], [1, 0, 2]])
def test_tensors_come_to_the_device_of_the_first(devices):
    near = on_one_device([Distant(device) for device in devices])
    assert [t.device for t in near] == [devices[0]] * len(devices)
