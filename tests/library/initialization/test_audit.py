"""The audit: what it predicts is what happens, and what it says about it."""

import math

import pytest
import torch
from draws import generator, normal
from torch import Tensor, nn

from gradlib.initialization import (
    Audit,
    Growth,
    audit,
    initialize_,
    lsuv_,
    measured_growth,
    predicted_growth,
)
from gradlib.initialization.growth import example_growth
from gradlib.models import (
    deep_mlp,
    recurrent_classifier,
    small_cnn,
    small_transformer,
)
from gradlib.theory import chi, finite_width_moments, fixed_point


def net(sigma_w2: float, depth: int = 12, activation: str = "relu") -> nn.Module:
    model = deep_mlp(depth, 256, in_features=256, activation=activation)
    gain = math.sqrt(sigma_w2)
    return initialize_(model, "normal", gain=gain, generator=generator(0))


def total(rows: Audit) -> tuple[Growth, Growth]:
    """Predicted and measured growth over the layers between first and last."""
    inner = list(rows)[1:-1]
    return tuple(
        Growth(*map(math.prod, zip(*(getattr(r, what) for r in inner), strict=True)))
        for what in ("predicted", "measured")
    )


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "sigmoid"])
@pytest.mark.parametrize("sigma_w2", [0.8, 2.0, 3.0])
def test_prediction_matches_measurement(activation: str, sigma_w2: float) -> None:
    model = net(sigma_w2, activation=activation)
    report = audit(model, normal(64, 256), generator=generator(1))
    predicted, measured = total(report)
    depth = len(report) - 2
    for a, b in zip(predicted, measured, strict=True):
        assert math.log(b / a) / depth == pytest.approx(0, abs=0.06)


def test_rows_converge_to_mean_field_theory() -> None:
    model = initialize_(
        deep_mlp(20, 300, in_features=300, activation="tanh"),
        "normal",
        gain=math.sqrt(3.0),
        bias_std=math.sqrt(0.05),
        generator=generator(0),
    )
    row = audit(model).rows[-2]
    assert row.predicted.forward == pytest.approx(1, abs=0.01)
    assert row.predicted.backward == pytest.approx(chi("tanh", 3.0, 0.05), rel=0.01)
    assert row.gain == pytest.approx(math.sqrt(3.0), rel=0.01)
    q = math.prod(r.predicted.forward for r in audit(model).rows[:-1])
    assert q == pytest.approx(fixed_point("tanh", 3.0, 0.05).q, rel=0.01)


def test_one_layer_by_hand() -> None:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
        layer.bias.copy_(torch.tensor([1.0, 2.0]))
    (row,) = audit(layer)
    assert row.gain == pytest.approx(math.sqrt(12.5))
    assert row.predicted == pytest.approx((12.5 + 2.5, 12.5))


@pytest.mark.parametrize(
    ("sigma_w2", "inner", "whole"),
    [(1.0, "shrinks", "shrinks"), (2.0, "keeps", "keeps"), (4.0, "grows", "grows")],
)
def test_verdicts(sigma_w2: float, inner: str, whole: str) -> None:
    report = audit(net(sigma_w2))
    assert {row.verdict for row in list(report)[1:]} == {inner}
    assert report.total.verdict == whole


def test_verdicts_of_one_direction_or_two() -> None:
    last = audit(net(4.0, activation="tanh")).rows[-1]
    assert last.predicted.forward == pytest.approx(1, abs=0.1)
    assert last.verdict == "grows"
    layer = nn.Linear(8, 8)
    nn.init.constant_(layer.bias, 10.0)
    assert audit(layer)[""].verdict == "signal grows, gradient shrinks"


def test_small_changes_add_up() -> None:
    report = audit(net(2.15, depth=60))
    assert report["layers.30"].verdict == "keeps"
    assert report.total.verdict == "grows"
    assert audit(net(2.15), tolerance=0.01)["layers.5"].verdict == "grows"


def test_extreme_weights_stay_readable() -> None:
    model = deep_mlp(60, 4, in_features=4, activation="gelu")
    for std in (1e-4, 1e4):
        initialize_(model, "normal", std=std, generator=generator(0))
        report = audit(model)
        assert report.total.verdict == ("shrinks" if std < 1 else "grows")
        assert not math.isnan(report.total.predicted.backward)
    with torch.no_grad():
        model.layers[7].weight.zero_()
    assert audit(model)["layers.7"].predicted == (0.0, 0.0)
    with torch.no_grad():
        model.layers[9].weight[0, 0] = math.nan
    assert audit(model)["layers.9"].verdict == "unknown"
    assert audit(model).total.verdict == "unknown"


@pytest.mark.parametrize(
    "options", [{"residual": "plain"}, {"norm": "batch"}, {"norm": "layer"}]
)
def test_no_total_is_predicted_where_layers_do_not_multiply(
    options: dict[str, str],
) -> None:
    model = deep_mlp(20, 64, in_features=64, **options)
    initialize_(model, "he", generator=generator(0))
    report = audit(model)
    assert report.total.verdict == "unknown"
    assert all(math.isnan(factor) for factor in report.total.predicted)
    assert report["layers.5"].verdict == "keeps"
    measured = audit(model, normal(64, 64), generator=generator(1)).total
    assert measured.verdict != "unknown"
    if "residual" in options:
        assert measured.verdict == "grows"


def test_norms_judge_layers_for_unit_variance() -> None:
    a, b = (deep_mlp(4, 64, in_features=64, activation="tanh", norm=n, seed=0)
            for n in (None, "layer"))  # fmt: skip
    assert audit(a)["layers.3"].predicted != audit(b)["layers.3"].predicted
    row = audit(b)["layers.3"]
    assert row.predicted.backward == pytest.approx(chi("tanh", row.gain**2, q=1.0))


def test_finite_width_scatters_the_measured_gradient() -> None:
    logs = []
    for seed in range(60):
        model = deep_mlp(12, 64, in_features=64, bias=False)
        initialize_(model, "he", generator=generator(seed))
        steps, _ = measured_growth(model, normal(1, 64, seed=seed), generator(seed))
        inner = list(steps.values())[1:-1]
        logs.append(sum(math.log(growth.backward) for growth in inner))
    measured, theory = torch.tensor(logs), finite_width_moments([64] * 10)
    assert measured.mean().item() == pytest.approx(theory.mean, abs=0.35)
    assert measured.var().item() == pytest.approx(theory.variance, rel=0.55)


def test_measurement_by_hand() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 2))
    x = normal(4, 3)
    steps, whole = measured_growth(model, x, generator(1))
    v = torch.randn(4, 2, generator=generator(1))
    z = x @ model[0].weight.T
    y = model(x)
    back = (v @ model[2].weight) * (z > 0)
    forward = y.square().mean() / z.square().mean()
    assert steps["2"].forward == pytest.approx(forward.item(), rel=1e-5)
    ratio = back.square().sum() / v.square().sum()
    assert steps["2"].backward == pytest.approx(ratio.item(), rel=1e-5)
    product = [math.prod(factors) for factors in zip(*steps.values(), strict=True)]
    assert whole == pytest.approx(product, rel=1e-5)


def test_measurement_sees_through_inplace_activations() -> None:
    parts = [nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)]
    x = normal(16, 8)
    a, b = (
        measured_growth(
            nn.Sequential(parts[0], f, parts[1], f, parts[2]), x, generator(1)
        )[1]
        for f in (nn.ReLU(), nn.ReLU(inplace=True))
    )
    assert a == pytest.approx(b)


def test_growth_of_each_example_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[2].weight.copy_(torch.tensor([[1.0, 0.0]]))
        model[2].bias.zero_()
    x = torch.tensor([[3.0, 0.0], [0.0, 3.0], [4.0, 4.0], [0.0, 0.0]])
    found = example_growth(model, x)
    expected = torch.tensor([2.0, 0.0, 1.0, math.nan], dtype=torch.float64)
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert audit(model, x).typical == pytest.approx(1.0)


def test_a_signal_that_lives_in_a_few_examples_is_noticed() -> None:
    batch = normal(100, 64)
    model = deep_mlp(40, 64, in_features=64, out_features=64, activation="gelu")
    lsuv_(model, batch, generator=generator(0))
    report = audit(model, batch, generator=generator(1))
    assert report.total.measured.forward == pytest.approx(1, abs=0.2)
    assert report.typical < 0.01
    assert report.total.verdict.endswith("but the signal of most examples shrinks")


@pytest.mark.parametrize("sigma_w2", [1.0, 2.0, 4.0])
def test_examples_that_fare_alike_are_not_mentioned(sigma_w2: float) -> None:
    report = audit(net(sigma_w2), normal(64, 256), generator=generator(1))
    assert "examples" not in report.total.verdict
    mean = report.total.measured.forward
    assert report.typical == pytest.approx(mean, rel=0.7)
    assert math.isnan(audit(net(sigma_w2)).typical)


def test_rows_that_are_not_examples_have_no_typical_one() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(3, 3), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(x).view(-1, 6))

    report = audit(Folded(), normal(4, 3), activation="identity")
    assert math.isnan(report.typical)
    assert "examples" not in report.total.verdict


def test_measurement_leaves_no_trace() -> None:
    model = nn.Sequential(
        small_cnn(4, 8, norm="batch", residual="plain"), nn.Dropout(0.5)
    )
    model[0].layers[1].requires_grad_(False)
    x = normal(8, 1, 12, 12).requires_grad_()
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    state = torch.get_rng_state()
    with torch.no_grad():
        audit(model, x)
    torch.testing.assert_close(dict(model.named_buffers()), buffers)
    assert torch.equal(torch.get_rng_state(), state)
    assert x.grad is None
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_measurement_leaves_the_batch_alone() -> None:
    x = normal(4, 3)
    before = x.clone()
    audit(nn.Linear(3, 3), x)
    assert not x.requires_grad
    torch.testing.assert_close(x, before)


def test_a_layer_that_runs_twice_counts_once() -> None:
    layer = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(2.0 * torch.eye(3))
    steps, _ = measured_growth(nn.Sequential(layer, nn.Tanh(), layer), normal(4, 3))
    assert list(steps) == ["0"]
    assert steps["0"].forward == pytest.approx(4.0)


def test_hooks_go_when_the_model_raises() -> None:
    model = deep_mlp(3, 8, in_features=4)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        audit(model, torch.ones(2, 5))
    assert not any(m._forward_hooks for m in model.modules())


def test_tokens_have_no_growth_into_the_first_layer() -> None:
    model = small_transformer(seed=0)
    report = audit(model, torch.zeros(2, 5, dtype=torch.int64))
    first = report["blocks.0.attention.query"].measured
    assert all(math.isnan(factor) for factor in first)
    assert report.total.verdict != "unknown"
    assert "-" in str(report)


def test_layers_that_do_not_run_are_unknown() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    model[0].extra = nn.Linear(3, 3)
    row = audit(model, torch.ones(2, 3))["0.extra"]
    assert all(math.isnan(factor) for factor in row.measured)


@pytest.mark.parametrize("batch", [None, normal(8, 256)])
def test_the_table_prints(batch: Tensor | None) -> None:
    report = audit(net(2.0, depth=30), batch)
    lines = str(report).splitlines()
    assert len(lines) == 1 + 12 + 1 + 1
    assert lines[0].split()[:4] == ["layer", "gain", "signal", "gradient"]
    assert ("measured" in lines[0]) is (batch is not None)
    assert lines[1].startswith("layers.0 ")
    assert lines[7] == "..."
    assert lines[-1].startswith("30 layers")
    assert len(report.table(rows=30).splitlines()) == 32
    assert report["layers.3"] in list(report)


def test_activation_is_looked_up() -> None:
    layers = [nn.Linear(4, 4) for _ in range(3)]
    a, b, c = layers
    one = nn.Sequential(a, nn.Tanh(), b, nn.Tanh(), c)
    for report in (audit(one), audit(one, activation="tanh")):
        assert predicted_growth(one, "tanh") == {r.layer: r.predicted for r in report}
    assert len(audit(deep_mlp(3, 4, activation=torch.sin))) == 3
    assert len(audit(recurrent_classifier())) == 1
    for net_, found in (
        (nn.Sequential(*layers), "got none"),
        (nn.Sequential(a, nn.Tanh(), b, nn.ReLU(), c), r"got Tanh\(\), ReLU\(\)"),
    ):
        with pytest.raises(ValueError, match=f"one kind of activation.*{found}"):
            audit(net_)
        assert len(audit(net_, activation="identity")) == 3


def test_bad_arguments_are_refused() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, got str"):
        audit("model")
    with pytest.raises(TypeError, match=r"batch: expected a tensor .* got list"):
        audit(model, [torch.ones(2, 2)])
    with pytest.raises(ValueError, match="tolerance: expected a finite number > 0"):
        audit(model, tolerance=0.0)
    with pytest.raises(ValueError, match="at least one linear or convolutional"):
        audit(nn.ReLU())
    with pytest.raises(KeyError, match="one of the layers 0; got '1'"):
        audit(nn.Sequential(model))["1"]

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = model

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.layer(x), x

    with pytest.raises(TypeError, match="returns a tensor, got tuple from Pair"):
        audit(Pair(), torch.ones(2, 2))


def test_an_activation_may_work_in_place() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 6), nn.Linear(6, 6)]
    x = torch.randn(8, 6)
    kept, in_place = (
        audit(nn.Sequential(layers[0], nn.ReLU(inplace=flag), layers[1]), x)
        for flag in (False, True)
    )
    assert repr(kept) == repr(in_place)


class Conv1D(nn.Module):
    """As in transformers: a linear layer with weights (inputs, outputs)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf) / nx**0.5)
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


def test_layers_with_transposed_weights_are_seen() -> None:
    torch.manual_seed(0)
    theirs = nn.Sequential(Conv1D(12, 5), nn.GELU(), Conv1D(3, 12))
    ours = nn.Sequential(nn.Linear(5, 12), nn.GELU(), nn.Linear(12, 3))
    for a, b in zip(theirs, ours, strict=True):
        if isinstance(a, Conv1D):
            b.weight.data, b.bias.data = a.weight.data.t(), a.bias.data
    x = torch.randn(8, 5)
    for row, same in zip(audit(theirs, x), audit(ours, x), strict=True):
        assert row.gain == pytest.approx(same.gain)
        assert row.predicted == pytest.approx(same.predicted)
        assert row.measured is not None
        assert row.measured == pytest.approx(same.measured, nan_ok=True)
