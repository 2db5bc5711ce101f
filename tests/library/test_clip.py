"""gradlib.clip against torch, timm and NumPy; its laws; its edges."""

import copy
import json
import math
import runpy
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import naive_forms
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.testing import assert_close

from gradlib.clip import (
    AutoClip,
    ZClip,
    as_clipper,
    clip_adaptive_,
    clip_each_norm_,
    clip_norm_,
    clip_value_,
    normalize_,
)
from gradlib.errors import NonFiniteGradientError

Clipper = Callable[..., Tensor]

# By path: the import of all of timm takes seconds.
TIMM = Path(find_spec("timm").origin).parent
adaptive_clip_grad = runpy.run_path(str(TIMM / "utils/agc.py"))["adaptive_clip_grad"]

CLIPPERS: dict[str, Callable[..., Clipper]] = {
    "value": partial(partial, clip_value_, clip_value=0.1),
    "norm": partial(partial, clip_norm_, max_norm=1.0),
    "each": partial(partial, clip_each_norm_, max_norm=1.0),
    "adaptive": partial(partial, clip_adaptive_, clipping=0.01),
    "normalize": partial(partial, normalize_, norm=1.0),
    "auto": AutoClip,
    "z": partial(ZClip, warmup=1, max_norm=1.0),
}

SIZES = st.floats(-1e4, 1e4).map(lambda x: 0.0 if abs(x) < 1e-4 else x)
GRADIENTS = st.lists(
    arrays(np.float64, array_shapes(max_dims=3, max_side=4), elements=SIZES),
    min_size=1,
    max_size=4,
)


@pytest.fixture(params=CLIPPERS, name="make")
def _make(request: pytest.FixtureRequest) -> Callable[..., Clipper]:
    return CLIPPERS[request.param]


def model(scale: float = 1.0, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A convolution, a linear layer and a norm, with gradients of about this size."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 5)
        ).to(dtype)
        for p in net.parameters():
            p.grad = scale * torch.randn_like(p)
    return net


def grads(parameters: Any) -> list[Tensor]:
    return [p.grad for p in parameters]


def with_grads(gradients: list[np.ndarray], dtype: Any = torch.float64) -> list[Tensor]:
    parameters = []
    for gradient in gradients:
        p = nn.Parameter(torch.ones(gradient.shape, dtype=dtype))
        p.grad = torch.tensor(gradient, dtype=dtype)
        parameters.append(p)
    return parameters


def norm_of(parameters: list[Tensor]) -> float:
    return naive_forms.total_norm([g.double().numpy() for g in grads(parameters)])


def same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


# Parity


@pytest.mark.parametrize("order", [1.0, 2, 2.0, 3.5, math.inf])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norm_is_that_of_torch_bit_for_bit(
    order: float, scale: float, dtype: torch.dtype
) -> None:
    ours, theirs = model(scale, dtype), model(scale, dtype)
    before = clip_norm_(ours.parameters(), 1.0, order)
    expected = clip_grad_norm_(theirs.parameters(), 1.0, order, foreach=True)
    same([before, *grads(ours.parameters())], [expected, *grads(theirs.parameters())])


@pytest.mark.parametrize("bound", [0.01, 1.0, 100.0])
def test_value_is_that_of_torch_bit_for_bit(bound: float) -> None:
    ours, theirs = model(), model()
    clip_value_(ours.parameters(), bound)
    clip_grad_value_(theirs.parameters(), bound, foreach=True)
    same(grads(ours.parameters()), grads(theirs.parameters()))


@pytest.mark.parametrize("bound", [0.01, 1.0, 100.0])
def test_each_is_that_of_torch_for_one_parameter(bound: float) -> None:
    ours, theirs = model(), model()
    clip_each_norm_(ours.parameters(), bound)
    for p in theirs.parameters():
        clip_grad_norm_(p, bound, foreach=True)
    same(grads(ours.parameters()), grads(theirs.parameters()))


@pytest.mark.parametrize("clipping", [1e-3, 0.01, 1.0])
@pytest.mark.parametrize("scale", [1e-3, 0.1, 10.0])
def test_adaptive_is_that_of_timm(clipping: float, scale: float) -> None:
    ours, theirs = model(scale), model(scale)
    clip_adaptive_(ours.parameters(), clipping)
    adaptive_clip_grad(theirs.parameters(), clipping)
    same(grads(ours.parameters()), grads(theirs.parameters()))


def test_autoclip_is_that_of_its_authors_up_to_its_window() -> None:
    clip, norms = AutoClip(percentile=30, window=5), []
    for step in range(12):
        scale = 2.0 + math.sin(step)
        ours, theirs = model(scale), model(scale)
        norms.append(clip(ours.parameters()).item())
        bound = naive_forms.autoclip_bounds(norms, 30, 5)[-1]
        clip_grad_norm_(theirs.parameters(), bound)
        assert_close(grads(ours.parameters()), grads(theirs.parameters()))


def test_zclip_is_the_formula_of_its_paper() -> None:
    rng = np.random.default_rng(0)
    norms = list(rng.uniform(1, 2, size=40))
    norms[15], norms[16], norms[30] = 50.0, 5.0, 1000.0
    expected = naive_forms.zclip_norms(norms, threshold=2.5, decay=0.97, warmup=10)
    clip, clipped = ZClip(warmup=10), []
    for norm in norms:
        parameters = with_grads([np.array([0.6, 0.8]) * norm])
        assert clip(parameters).item() == pytest.approx(norm)
        clipped.append(norm_of(parameters))
    np.testing.assert_allclose(clipped, expected, rtol=1e-4)
    assert sum(e < n for e, n in zip(expected, norms, strict=True)) >= 3


@given(GRADIENTS, st.floats(0.1, 100.0))
@settings(deadline=None)
def test_all_are_the_naive_forms(gradients: list[np.ndarray], bound: float) -> None:
    norm = naive_forms.total_norm(gradients)
    weights = [np.ones(g.shape) for g in gradients]
    forms: list[tuple[Clipper, list[np.ndarray]]] = [
        (clip_value_, naive_forms.clip_value(gradients, bound)),
        (clip_norm_, naive_forms.clip_norm(gradients, bound)),
        (clip_each_norm_, naive_forms.clip_each_norm(gradients, bound)),
        (clip_adaptive_, naive_forms.clip_adaptive(weights, gradients, bound, 1e-3)),
    ]
    if norm > 0:
        forms.append((normalize_, naive_forms.normalize(gradients, bound)))
    for clip, expected in forms:
        parameters = with_grads(gradients)
        assert clip(parameters, bound).item() == pytest.approx(norm)
        for p, e in zip(parameters, expected, strict=True):
            np.testing.assert_allclose(p.grad.numpy(), e, rtol=2e-5, atol=1e-12)


# Laws


@given(GRADIENTS, st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_the_bound_is_kept(gradients: list[np.ndarray], bound: float) -> None:
    for dtype in (torch.float32, torch.float64):
        slack = 1 + 1e-5
        parameters = with_grads(gradients, dtype)
        clip_norm_(parameters, bound)
        assert norm_of(parameters) <= bound * slack
        parameters = with_grads(gradients, dtype)
        clip_each_norm_(parameters, bound)
        assert all(norm_of([p]) <= bound * slack for p in parameters)
        parameters = with_grads(gradients, dtype)
        clip_value_(parameters, bound)
        assert all(p.grad.abs().max() <= bound * slack for p in parameters)
        parameters = with_grads(gradients, dtype)
        clip_adaptive_(parameters, bound)
        for p in parameters:
            units = p.grad if p.ndim > 1 else p.grad[None]
            weights = p.detach() if p.ndim > 1 else p.detach()[None]
            ratio = units.flatten(1).norm(dim=1) / weights.flatten(1).norm(dim=1)
            assert ratio.max() <= bound * slack


@given(GRADIENTS, st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_the_direction_is_kept(gradients: list[np.ndarray], bound: float) -> None:
    whole = np.concatenate([g.ravel() for g in gradients])
    if not whole.any():
        return
    for clip in (clip_norm_, normalize_):
        parameters = with_grads(gradients)
        clip(parameters, bound)
        after = np.concatenate([g.numpy().ravel() for g in grads(parameters)])
        scale = np.linalg.norm(after) / np.linalg.norm(whole)
        assert scale > 0
        np.testing.assert_allclose(after, scale * whole, rtol=1e-9)


@given(GRADIENTS, st.floats(1.001, 100.0))
@settings(deadline=None)
def test_untouched_below_the_bound(gradients: list[np.ndarray], room: float) -> None:
    norm = naive_forms.total_norm(gradients)
    largest = max(np.abs(g).max() for g in gradients)
    for clip, bound in (
        (clip_norm_, room * norm + 1e-2),
        (clip_each_norm_, room * norm + 1e-2),
        (clip_value_, room * largest + 1e-2),
        (clip_adaptive_, room * norm + 1e-2),
    ):
        parameters = with_grads(gradients)
        clip(parameters, bound)
        for p, g in zip(parameters, gradients, strict=True):
            np.testing.assert_array_equal(p.grad.numpy(), g)


@given(GRADIENTS, st.floats(1.0, 1e4))
@settings(deadline=None)
def test_above_the_bound_size_does_not_matter(
    gradients: list[np.ndarray], factor: float
) -> None:
    norm = naive_forms.total_norm(gradients)
    if norm == 0:
        return
    for clip in (partial(clip_norm_, max_norm=norm / 10), normalize_):
        small = with_grads(gradients)
        large = with_grads([factor * g for g in gradients])
        clip(small)
        clip(large)
        for a, b in zip(grads(small), grads(large), strict=True):
            assert_close(a, b, rtol=0.02, atol=0)


@given(GRADIENTS, st.floats(1e-2, 1e2), st.floats(1e-2, 1e2))
@settings(deadline=None)
def test_gradient_and_bound_scale_together(
    gradients: list[np.ndarray], bound: float, factor: float
) -> None:
    for clip in (clip_value_, clip_norm_, clip_each_norm_):
        plain = with_grads(gradients)
        scaled = with_grads([factor * g for g in gradients])
        clip(plain, bound)
        clip(scaled, factor * bound)
        for a, b in zip(grads(plain), grads(scaled), strict=True):
            assert_close(factor * a, b, rtol=0.02, atol=0)


@given(st.lists(st.floats(0.1, 1e3), min_size=1, max_size=30), st.floats(0, 100))
@settings(max_examples=50, deadline=None)
def test_autoclip_keeps_to_the_norms_seen(norms: list[float], q: float) -> None:
    clip = AutoClip(percentile=q, window=8)
    for norm in norms:
        parameters = with_grads([np.array([norm])])
        clip(parameters)
        seen = np.array(clip.norms)
        assert len(seen) <= 8
        assert norm_of(parameters) <= min(norm, np.percentile(seen, q)) * (1 + 1e-9)
        assert norm_of(parameters) >= min(norm, seen.min()) * (1 - 1e-4)


@given(st.floats(3.0, 1e6), st.floats(1.01, 100.0))
@settings(max_examples=50, deadline=None)
def test_zclip_cuts_the_larger_spike_to_the_smaller_norm(
    spike: float, factor: float
) -> None:
    after = []
    for size in (spike, factor * spike):
        clip = ZClip(warmup=4)
        for norm in (0.9, 1.1, 0.9, 1.1, size):
            parameters = with_grads([np.array([norm])])
            clip(parameters)
        after.append(norm_of(parameters))
    assert 1.0 < after[1] < after[0] < 1.25 + 1e-9


# Edges


def test_parameters_without_gradient_are_skipped(make: Callable[..., Clipper]) -> None:
    net = model(10.0)
    net[0].weight.grad = None
    net[3].weight.requires_grad_(False)
    net[3].weight.grad = None
    net[3].bias.requires_grad_(False)
    frozen = net[3].weight.clone()
    make()(net.parameters())
    assert net[0].weight.grad is None
    assert net[3].weight.grad is None
    assert_close(net[3].weight, frozen)


def test_no_gradients_are_a_norm_of_zero(make: Callable[..., Clipper]) -> None:
    net = nn.Linear(2, 2)
    norm = make()(net.parameters())
    assert norm.shape == ()
    assert norm == 0
    assert net.weight.grad is None


def test_zero_gradients_stay_zero(make: Callable[..., Clipper]) -> None:
    net = model(0.0)
    assert make()(net.parameters()) == 0
    same(grads(net.parameters()), [torch.zeros_like(p) for p in net.parameters()])


def test_a_used_generator_is_refused(make: Callable[..., Clipper]) -> None:
    parameters = model().parameters()
    make()(parameters)
    with pytest.raises(ValueError, match="can be used only once"):
        make()(parameters)


def test_names_or_no_names_or_one_tensor(make: Callable[..., Clipper]) -> None:
    plain, named = model(), model()
    norm = make()(plain.parameters())
    assert make()(named.named_parameters()) == norm
    same(grads(named.parameters()), grads(plain.parameters()))
    alone = nn.Parameter(torch.ones(1, 1))
    alone.grad = torch.full((1, 1), 5.0)
    assert make()(alone) == 5.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_broken_gradients_are_refused_and_named(
    make: Callable[..., Clipper], bad: float
) -> None:
    net = model()
    net[3].weight.grad[2, 7] = bad
    before = copy.deepcopy(grads(net.parameters()))
    kind = "nan" if math.isnan(bad) else "inf"
    with pytest.raises(NonFiniteGradientError, match=rf"{kind} .* of 3\.weight"):
        make()(net.named_parameters())
    with pytest.raises(NonFiniteGradientError, match="parameter 4") as error:
        make()(net.parameters())
    assert (error.value.name, error.value.kind) == ("parameter 4", kind)
    same(grads(net.parameters()), before)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_unchecked_broken_gradients_do_as_in_torch(bad: float) -> None:
    def broken() -> nn.Module:
        net = model()
        net[3].weight.grad[2, 7] = bad
        return net

    ours, theirs = broken(), broken()
    clip_norm_(ours.parameters(), 1.0, nonfinite="pass")
    clip_grad_norm_(theirs.parameters(), 1.0)
    same(grads(ours.parameters()), grads(theirs.parameters()))
    ours, theirs = broken(), broken()
    clip_value_(ours.parameters(), 1.0, nonfinite="pass")
    clip_grad_value_(theirs.parameters(), 1.0)
    same(grads(ours.parameters()), grads(theirs.parameters()))
    ours, theirs = broken(), broken()
    clip_each_norm_(ours.parameters(), 1.0, nonfinite="pass")
    for p in theirs.parameters():
        clip_grad_norm_(p, 1.0)
    same(grads(ours.parameters()), grads(theirs.parameters()))
    ours, theirs = broken(), broken()
    clip_adaptive_(ours.parameters(), nonfinite="pass")
    adaptive_clip_grad(theirs.parameters())
    same(grads(ours.parameters()), grads(theirs.parameters()))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    "clip",
    [
        partial(normalize_, nonfinite="pass"),
        AutoClip(nonfinite="pass"),
        ZClip(warmup=1, max_norm=1.0, nonfinite="pass"),
    ],
    ids=["normalize", "auto", "z"],
)
def test_unchecked_broken_gradients_are_left_alone(clip: Clipper, bad: float) -> None:
    net = model()
    net[3].weight.grad[2, 7] = bad
    before = copy.deepcopy(grads(net.parameters()))
    assert not clip(net.parameters()).isfinite()
    same(grads(net.parameters()), before)


def test_finite_gradients_beyond_the_range_of_their_norm(
    make: Callable[..., Clipper],
) -> None:
    """Squares of 1e30 overflow float32; torch clips such gradients to zero."""
    net = model(1e30)
    norm = make()(net.parameters())
    assert 1e30 < norm.item() < 1e33
    after = torch.cat([g.double().flatten() for g in grads(net.parameters())])
    assert after.isfinite().all()
    assert 0 < after.norm() < math.inf
    lost = model(1e30)
    clip_grad_norm_(lost.parameters(), 1.0)
    assert not any(g.any() for g in grads(lost.parameters()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(make: Callable[..., Clipper], dtype: torch.dtype) -> None:
    """Eight times 60,000 is a norm beyond float16; it is taken in float32."""
    p = nn.Parameter(torch.ones(8, 1, dtype=dtype))
    p.grad = torch.full((8, 1), 60000.0, dtype=dtype)
    norm = make()([p])
    assert norm.dtype is torch.float32
    assert_close(norm, p.grad.new_tensor(60000.0).float() * 8**0.5)
    assert p.grad.dtype is dtype
    assert p.grad.isfinite().all()
    assert p.grad.any()


def test_half_beside_other_precision(make: Callable[..., Clipper]) -> None:
    net = nn.Sequential(
        nn.Linear(2, 2).half(), nn.Linear(2, 2), nn.Linear(2, 2).double()
    )
    for p in net.parameters():
        p.grad = torch.full_like(p, 3.0)
    norm = make()(net.parameters())
    assert norm.item() == pytest.approx(3 * 18**0.5)
    assert [g.dtype for g in grads(net.parameters())][::2] == [
        torch.float16,
        torch.float32,
        torch.float64,
    ]


def test_sparse_gradients_do_as_dense_ones(make: Callable[..., Clipper]) -> None:
    dense, sparse = nn.Embedding(6, 3), nn.Embedding(6, 3, sparse=True)
    sparse.load_state_dict(dense.state_dict())
    index = torch.tensor([1, 1, 4])
    for net in (dense, sparse):
        (net(index) * torch.arange(1.0, 10.0).view(3, 3)).sum().backward()
    clips = make(), make()
    assert_close(clips[0](sparse.parameters()), clips[1](dense.parameters()))
    assert sparse.weight.grad.is_sparse
    assert_close(sparse.weight.grad.to_dense(), dense.weight.grad)


def test_scalar_empty_and_strided_parameters(make: Callable[..., Clipper]) -> None:
    scalar = nn.Parameter(torch.tensor(1.0))
    scalar.grad = torch.tensor(3.0)
    empty = nn.Parameter(torch.zeros(0, 3))
    empty.grad = torch.zeros(0, 3)
    hollow = nn.Parameter(torch.zeros(2, 0))
    hollow.grad = torch.zeros(2, 0)
    turned = nn.Parameter(torch.ones(2, 2).T)
    turned.grad = torch.tensor([[4.0, 0.0], [0.0, 0.0]]).T
    norm = make()([scalar, empty, hollow, turned])
    assert norm.item() == pytest.approx(5.0)


def test_largest_number_as_norm_with_empty_parameters() -> None:
    p, empty = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(0))
    p.grad, empty.grad = torch.tensor([3.0, -4.0]), torch.zeros(0)
    assert clip_norm_([empty, p], 1.0, math.inf) == 4.0
    assert_close(p.grad, torch.tensor([0.75, -1.0]))


def test_gradients_that_are_part_of_a_graph(make: Callable[..., Clipper]) -> None:
    p = nn.Parameter(torch.ones(2, 2))
    (p.grad,) = torch.autograd.grad((p**3).sum(), p, create_graph=True)
    norm = make()([p])
    assert not norm.requires_grad


@pytest.fixture(name="reads")
def _reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the methods that read the device, one for each call."""
    calls: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        read = getattr(Tensor, name)
        return lambda *args: (calls.append(name), read(*args))[1]

    for name in ("item", "tolist", "numpy", "__float__", "__int__", "__bool__"):
        monkeypatch.setattr(Tensor, name, counted(name))
    return calls


def test_the_device_is_read_once(
    make: Callable[..., Clipper], reads: list[str]
) -> None:
    clip = make()
    clip(model().parameters())
    assert reads == ["item"]
    clip(model().parameters())
    assert reads == ["item"] * 2


@pytest.mark.parametrize(
    "clip",
    [
        partial(clip_value_, clip_value=1.0),
        partial(clip_norm_, max_norm=1.0),
        partial(clip_each_norm_, max_norm=1.0),
        clip_adaptive_,
        normalize_,
    ],
)
def test_without_the_check_nothing_is_read(clip: Clipper, reads: list[str]) -> None:
    clip(model().parameters(), nonfinite="pass")
    assert reads == []


def test_adaptive_treats_each_output_unit() -> None:
    """A convolution's weights are (out, in, height, width)."""
    layer = nn.Conv2d(2, 3, 2, bias=False)
    nn.init.ones_(layer.weight)
    layer.weight.grad = torch.zeros_like(layer.weight)
    layer.weight.grad[1] = 10.0
    layer.weight.grad[2] = 1e-4
    clip_adaptive_(layer.parameters(), clipping=0.01)
    assert layer.weight.grad[1].norm().item() == pytest.approx(0.01 * 8**0.5)
    assert_close(layer.weight.grad[2], torch.full((2, 2, 2), 1e-4))


def test_adaptive_lets_zero_weights_move() -> None:
    p = nn.Parameter(torch.zeros(1, 4))
    p.grad = torch.ones(1, 4)
    clip_adaptive_([p], clipping=0.01, eps=1e-3)
    assert p.grad.norm().item() == pytest.approx(1e-5)


def test_adaptive_keeps_its_bound_below_the_guard_of_timm() -> None:
    """timm divides by at least 1e-6, and so shrinks gradients below that again."""
    p = nn.Parameter(torch.zeros(1, 1))
    p.grad = torch.full((1, 1), 5e-8)
    clip_adaptive_([p], clipping=1e-5, eps=1e-3)
    assert p.grad.item() == pytest.approx(1e-8)


def test_adaptive_is_exact_where_a_norm_does_not_fit_float32() -> None:
    """The scale is then a denormal number of float32, with few digits."""
    p = nn.Parameter(torch.tensor([[0.6, 0.8]]))
    p.grad = torch.tensor([[2.9e38, 3.1e38]])
    direction = nn.functional.normalize(p.grad.double())
    clip_adaptive_([p], clipping=1e-3)
    assert_close(p.grad, (1e-3 * direction).float(), rtol=1e-6, atol=0)


def test_normalize_reaches_tiny_gradients() -> None:
    """The square of 1e-30 is zero in float32."""
    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([3e-30, 4e-30])
    normalize_([p], norm=10.0)
    assert_close(p.grad, torch.tensor([6.0, 8.0]))


def test_autoclip_counts_neither_zero_nor_broken_norms() -> None:
    clip = AutoClip(nonfinite="pass")
    for size in (2.0, 0.0, math.nan, math.inf, 3.0):
        clip(with_grads([np.array([size])]))
    assert list(clip.norms) == [2.0, 3.0]


def test_memory_holds_norms_beyond_the_range_of_float32() -> None:
    for clip in (AutoClip(percentile=0), ZClip(warmup=1, z_threshold=1.0)):
        first = clip(model().parameters()).item()
        net = model(1e30)
        assert clip(net.parameters()) > 1e30
        assert norm_of(list(net.parameters())) == pytest.approx(first, rel=1e-4)


def test_zclip_does_not_count_broken_norms() -> None:
    clip = ZClip(warmup=2, nonfinite="pass")
    for size in (2.0, math.nan, 4.0, math.inf):
        clip(with_grads([np.array([size])]))
    assert (clip.mean, clip.variance) == (3.0, 1.0)


def test_zclip_does_not_clip_in_warmup_but_for_its_fixed_bound() -> None:
    free, bound = ZClip(warmup=3), ZClip(warmup=3, max_norm=2.0)
    for size in (1.0, 100.0, 1.0):
        parameters = with_grads([np.array([size])])
        free(parameters)
        assert norm_of(parameters) == size
        bound(parameters)
        assert norm_of(parameters) == pytest.approx(min(size, 2.0))


def test_clippers_with_memory_can_be_copied() -> None:
    for clip in (AutoClip(), ZClip(warmup=1)):
        clip(model().parameters())
        twin = copy.deepcopy(clip)
        a, b = model(3.0), model(3.0)
        clip(a.parameters())
        twin(b.parameters())
        same(grads(a.parameters()), grads(b.parameters()))


# Messages


@pytest.mark.parametrize("clip", [clip_value_, clip_norm_, clip_each_norm_, normalize_])
@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_bounds_are_positive_numbers(clip: Clipper, bad: float) -> None:
    with pytest.raises(ValueError, match=r"expected a finite number > 0, got"):
        clip(model().parameters(), bad)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: clip_norm_(p, "1"), TypeError, "max_norm: expected a finite number"),
        (lambda p: clip_norm_(p, 1.0, -2), ValueError, "norm_type: expected .* > 0"),
        (lambda p: clip_norm_([], 1.0), ValueError, "at least one, got none"),
        (lambda p: clip_norm_(nn.Linear(1, 1), 1.0), TypeError, "got Linear. Pass"),
        (lambda p: clip_norm_({"a": 1}, 1.0), TypeError, r"pairs .*, got str"),
        (lambda p: clip_norm_(None, 1.0), TypeError, "got NoneType"),
        (lambda p: clip_adaptive_(p, 0), ValueError, "clipping: expected"),
        (lambda p: clip_adaptive_(p, eps=0), ValueError, "eps: expected"),
        (lambda p: AutoClip(101), ValueError, "from 0 to 100, got 101"),
        (lambda p: AutoClip(-1), ValueError, "percentile: expected"),
        (lambda p: AutoClip(window=0), ValueError, "window: expected a whole number"),
        (lambda p: ZClip(decay=1.0), ValueError, "decay: .* > 0 and < 1, got 1.0"),
        (lambda p: ZClip(z_threshold=0), ValueError, "z_threshold: expected"),
        (lambda p: ZClip(warmup=0), ValueError, "warmup: expected"),
        (lambda p: ZClip(max_norm=-1), ValueError, "max_norm: expected"),
    ],
)
def test_messages(
    call: Callable[[Any], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(list(model().parameters()))


@pytest.mark.parametrize("size", [0.5, 40.0])
def test_a_norm_and_a_function_clip_alike(size):
    a, b = (torch.nn.Parameter(torch.zeros(3)) for _ in range(2))
    a.grad, b.grad = torch.full((3,), size), torch.full((3,), size)
    as_clipper(1.0)([a])
    as_clipper(partial(clip_norm_, max_norm=1.0))([b])
    torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=0)
    assert as_clipper(None) is as_clipper(math.inf) is None


@pytest.mark.parametrize("clip", ["1.0", [1.0], AutoClip])
def test_what_cannot_clip_is_refused(clip):
    with pytest.raises(TypeError, match="clip: expected a norm"):
        as_clipper(clip)


def test_adaptive_clipping_keeps_numbers_and_vectors_apart():
    sizes = ((), (3,), (2, 2), (), (4,))
    together = [torch.nn.Parameter(torch.full(size, 2.0)) for size in sizes]
    alone = copy.deepcopy(together)
    for k, (p, q) in enumerate(zip(together, alone, strict=True)):
        p.grad, q.grad = torch.full_like(p, k + 1.0), torch.full_like(q, k + 1.0)
        clip_adaptive_([q], clipping=0.1)
    clip_adaptive_(together, clipping=0.1)
    for p, q in zip(together, alone, strict=True):
        assert_close(p.grad, q.grad)


def test_defaults_are_those_of_the_papers():
    assert (AutoClip().percentile, ZClip().z_threshold) == (10, 2.5)
    assert (ZClip().decay, ZClip().warmup) == (0.97, 25)


@pytest.mark.parametrize(
    "make",
    [lambda: AutoClip(50, window=8), lambda: ZClip(warmup=4)],
    ids=["AutoClip", "ZClip"],
)
@pytest.mark.parametrize("resumed_after", [2, 12])
def test_a_resumed_clipper_goes_on_as_if_nothing_had_been(make, resumed_after):
    sizes = [1.0, 3.0, 2.0, 5.0, 1.5, 40.0, 2.5, 1.0, 9.0, 2.0, 3.0, 2.5, 60.0, 1.0]
    whole, first, second = make(), make(), make()

    def clipped(clipper, sizes):
        found = []
        for size in sizes:
            p = torch.nn.Parameter(torch.zeros(1))
            p.grad = torch.tensor([size])
            clipper([p])
            found.append(p.grad.item())
        return found

    expected = clipped(whole, sizes)
    clipped(first, sizes[:resumed_after])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert clipped(second, sizes[resumed_after:]) == expected[resumed_after:]
    assert clipped(make(), sizes[resumed_after:]) != expected[resumed_after:]


def test_the_state_of_something_else_is_refused():
    with pytest.raises(KeyError):
        AutoClip().load_state_dict(ZClip().state_dict())


def test_an_error_names_the_choice_under_a_scaler():
    p = torch.nn.Parameter(torch.zeros(1))
    p.grad = torch.tensor([math.inf])
    with pytest.raises(NonFiniteGradientError, match="nonfinite='skip'; under a Grad"):
        ZClip()([p])
    ZClip(nonfinite="pass")([p])


ALL = [
    partial(clip_value_, clip_value=1.0),
    partial(clip_norm_, max_norm=1.0),
    partial(clip_each_norm_, max_norm=1.0),
    clip_adaptive_,
    normalize_,
]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("clip", ALL)
def test_a_step_that_is_skipped_moves_nothing(clip: Clipper, bad: float) -> None:
    net = model()
    adam = torch.optim.Adam(net.parameters(), lr=0.1, weight_decay=0.1)
    adam.step()
    before = [p.detach().clone() for p in net.parameters()]
    next(net.parameters()).grad.view(-1)[0] = bad
    assert not clip(net.parameters(), nonfinite="skip").isfinite()
    assert all(p.grad is None for p in net.parameters())
    adam.step()
    for p, old in zip(net.parameters(), before, strict=True):
        assert torch.equal(p, old)


@pytest.mark.parametrize("clip", ALL)
def test_a_finite_step_is_not_skipped(clip: Clipper) -> None:
    skipping, raising = model(1e30), model(1e30)
    clip(skipping.parameters(), nonfinite="skip")
    clip(raising.parameters())
    for p, q in zip(skipping.parameters(), raising.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


def test_memory_does_not_count_a_step_that_is_skipped() -> None:
    for clip in (AutoClip(nonfinite="skip"), ZClip(warmup=9, nonfinite="skip")):
        broken = with_grads([np.array([math.nan])])
        clip(broken)
        assert broken[0].grad is None
        assert not (clip.norms if isinstance(clip, AutoClip) else clip._first)


@pytest.mark.parametrize("make", [AutoClip, ZClip])
def test_memory_passes_over_the_overflow_of_a_scaler(make: type) -> None:
    """The scaler skips its first steps; they are not counted, and training goes on."""
    net, clip = model(), make(nonfinite="pass")
    sgd = torch.optim.SGD(net.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    finite = []
    for _ in range(12):
        sgd.zero_grad()
        loss = sum(10 * p.square().sum() + p.sum() for p in net.parameters())
        scaler.scale(loss).backward()
        scaler.unscale_(sgd)
        finite.append(bool(clip(net.parameters()).isfinite()))
        scaler.step(sgd)
        scaler.update()
    assert not finite[0]
    assert finite[-1]
    counted = clip.norms if isinstance(clip, AutoClip) else clip._first
    assert len(counted) == sum(finite)


def test_other_words_are_refused() -> None:
    with pytest.raises(ValueError, match="nonfinite: expected one of raise, skip, pa"):
        clip_norm_(model().parameters(), 1.0, nonfinite="ignore")
    with pytest.raises(ValueError, match="nonfinite: expected one of raise, skip, pa"):
        ZClip(nonfinite="ignore")
