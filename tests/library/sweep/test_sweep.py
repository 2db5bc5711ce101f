"""Sweeps against runs one by one, divergence, tables, edges."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradlib.clip import AutoClip, as_clipper, clip_value_
from gradlib.data import batches, mnist
from gradlib.initialization import initialize_
from gradlib.measure import total_norm
from gradlib.models import deep_mlp, small_cnn
from gradlib.sweep import Run, Setting, SweepResult, build, sweep
from gradlib.training import fit

MODELS = {
    "plain": partial(deep_mlp, 4, 16, in_features=16),
    "batch norm": partial(deep_mlp, 4, 16, in_features=16, norm="batch"),
    "layer norm": partial(deep_mlp, 4, 16, in_features=16, norm="layer"),
    "rezero": partial(deep_mlp, 4, 16, in_features=16, residual="rezero"),
    "convolutions": partial(small_cnn, 3, 4),
}


@pytest.fixture(scope="module")
def digits():
    """Ten minibatches of 20 digits of 4 x 4 pixels."""
    return list(batches(*mnist("train", 200, pool=7), 20, epochs=1))


def alone(model, digits, run, start=None, *, momentum=0.0, clip=None, **options):
    """Loss curve and norms of one run, by the plain loop; NaN after divergence."""
    net = build(model, run.seed, start)
    clipper = copy.deepcopy(as_clipper(clip))
    optimizer = torch.optim.SGD(net.parameters(), lr=run.lr, momentum=momentum)
    curve, norms, limit = [], [], options.get("diverged_above")
    loss_fn = options.get("loss_fn", F.cross_entropy)
    for x, y in digits:
        loss = loss_fn(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        norm = total_norm(net.parameters())
        if clipper is not None:
            clipper(list(net.parameters()))
        curve.append(loss.item())
        norms.append(norm.item())
        limit = 1000 * max(curve[0], 1) if limit is None else limit
        if not math.isfinite(curve[-1] + norms[-1]) or curve[-1] > limit:
            break
        optimizer.step()
    missing = [math.nan] * (len(digits) - len(curve))
    return torch.tensor([curve + missing, norms + missing], dtype=torch.float64)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.5, "clip": 0.3},
        {"clip": AutoClip(percentile=20)},
        {"momentum": 0.5, "clip": partial(clip_value_, clip_value=0.01)},
    ],
    ids=["sgd", "momentum", "clipped", "clipped with a memory", "clipped by value"],
)
def test_a_sweep_is_its_runs_one_by_one(digits, name, options):
    found = sweep(MODELS[name], digits, lrs=[0.01, 0.3], seeds=[0, 5], **options)
    for k, run in enumerate(found.runs):
        losses, norms = alone(MODELS[name], digits, run, **options)
        torch.testing.assert_close(found.losses[k], losses, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.gradient_norms[k], norms, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain", {}),
        ("plain", {"momentum": 0.9}),
        ("plain", {"diverged_above": 3.5, "clip": 5.0}),
        ("batch norm", {"diverged_above": 3.5, "momentum": 0.5}),
    ],
)
def test_runs_that_diverge_leave_the_others_alone(digits, name, options):
    model, lrs = MODELS[name], [30.0, 0.1, 1e6, 0.02]
    found = sweep(model, digits, lrs=lrs, seeds=[0, 1], schemes=["he"], **options)
    assert found.diverged.tolist() == [True, True, False, False] * 2
    assert len(set(found.diverged_at)) > 1
    for k, run in enumerate(found.runs):
        losses, norms = alone(model, digits, run, "he", **options)
        seen = losses.isfinite() & norms.isfinite()
        assert found.losses[k].isnan().equal(losses.isnan())
        for ours, theirs in [
            (found.losses[k], losses),
            (found.gradient_norms[k], norms),
        ]:
            torch.testing.assert_close(ours[seen], theirs[seen], rtol=2e-3, atol=1e-5)
        steps = losses.isnan().logical_not().sum().item()
        assert found.diverged_at[k] == (None if steps == len(digits) else steps - 1)


class Bowl(nn.Module):
    """A parabola, whose buffer makes it very flat or very steep."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("slope", 10 ** torch.randn(1))

    def forward(self, x):
        return self.slope * self.weight * x


def test_each_run_keeps_its_own_buffers_and_its_own_limit():
    data = [(torch.ones(1), torch.zeros(1))] * 30
    options = {"loss_fn": F.mse_loss, "momentum": 0.3}
    found = sweep(Bowl, data, lrs=[20.0, 0.1, 2.0], seeds=range(8), **options)
    assert len({step for step in found.diverged_at if step is not None}) >= 3
    assert not found.diverged.all()
    assert ((found.losses[:, 0] < 1) & found.diverged).any()
    for k, run in enumerate(found.runs):
        losses, _ = alone(Bowl, data, run, **options)
        missing = losses.new_full((30 - len(found.losses[k]),), math.nan)
        ours = torch.cat([found.losses[k], missing])
        torch.testing.assert_close(ours, losses, rtol=1e-3, atol=0, equal_nan=True)


def test_an_infinite_loss_counts_as_divergence_whatever_its_gradient():
    def loss_fn(outputs, targets):
        return outputs.mean() + math.inf

    data = [(torch.ones(1), torch.zeros(1))]
    found = sweep(Bowl, data, lrs=[0.1], loss_fn=loss_fn, diverged_above=math.inf)
    assert found.gradient_norms.isfinite().all()
    assert found.diverged_at == (0,)


@pytest.mark.parametrize("start", ["he", None, partial(initialize_, scheme="lecun")])
def test_build_draws_from_its_seed(start):
    def first_weight(seed):
        net = build(lambda: MODELS["plain"]().eval(), seed, start)
        assert net.training
        return net.layers[0].weight.detach()

    torch.testing.assert_close(first_weight(3), first_weight(3), rtol=0, atol=0)
    assert not torch.equal(first_weight(3), first_weight(4))


def test_build_draws_a_scheme_as_initialize_does():
    generator = torch.Generator().manual_seed(7)
    expected = initialize_(MODELS["plain"](), "he", generator=generator)
    torch.testing.assert_close(
        build(MODELS["plain"], 7, "he").state_dict(), expected.state_dict()
    )


def test_a_run_is_what_fit_makes_of_it(digits):
    model, options = MODELS["plain"], {"clip": 0.5}
    found = sweep(model, digits, lrs=[0.1, 1e5], seeds=[3], schemes=["he"], **options)
    for k, run in enumerate(found.runs):
        history = fit(
            build(model, run.seed, "he"),
            digits,
            lr=run.lr,
            **options,
            stop_at_divergence="stop",
        )
        ours = found.history(k)
        assert ours.diverged_at == history.diverged_at
        for column in ours.columns:
            assert ours[column] == pytest.approx(history[column], rel=1e-3)
    assert [step is None for step in found.diverged_at] == [True, False]


class Cusp(nn.Module):
    """Its output is finite; its gradient, 0 times infinity, is not."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x @ (0 * self.weight).sqrt()


def test_a_gradient_that_is_not_finite_counts_as_divergence():
    data = [(torch.ones(4, 3), torch.zeros(4))]
    found = sweep(Cusp, data, lrs=[0.1], loss_fn=F.mse_loss)
    assert found.diverged_at == (0,)
    assert found.losses.tolist() == [[0.0]]
    assert found.gradient_norms.isnan().all()


def test_an_infinite_limit_still_stops_at_numbers_that_are_not_finite(digits):
    options = {"lrs": [1e9], "diverged_above": math.inf, "schemes": ["he"]}
    found = sweep(MODELS["plain"], digits, **options)
    assert found.diverged.all()
    assert sweep(MODELS["plain"], digits, lrs=[1e9], schemes=["he"]).diverged_at[0] == 1


def test_when_all_runs_have_diverged_the_sweep_ends(digits):
    found = sweep(MODELS["plain"], digits, lrs=[1e9], seeds=[0, 1], steps=10**9)
    assert found.losses.shape[1] < 10
    assert found.final_losses.tolist() == [math.inf, math.inf]


def test_in_double_precision_a_sweep_is_its_runs_to_twelve_digits(digits):
    double = [(x.double(), y) for x, y in digits]

    def model():
        return MODELS["plain"]().double()

    options = {"momentum": 0.9, "clip": 0.3}
    found = sweep(model, double, lrs=[0.1, 0.2], schemes=["he"], **options)
    for k, run in enumerate(found.runs):
        losses, norms = alone(model, double, run, "he", **options)
        torch.testing.assert_close(found.losses[k], losses, rtol=1e-12, atol=0)
        torch.testing.assert_close(found.gradient_norms[k], norms, rtol=1e-11, atol=0)


def test_frozen_and_unused_weights_stay_as_they_are(digits):
    def model():
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 10))
        net[1].requires_grad_(False)
        net.spare = nn.Linear(2, 2)
        net.forward = lambda x: net[2](net[1](net[0](x)))
        return net

    run = Run("as made", 0.5, 1)
    found = sweep(model, digits, lrs=[0.5], seeds=[1])
    losses, norms = alone(model, digits, run)
    torch.testing.assert_close(found.losses[0], losses, rtol=1e-4, atol=1e-5)


def test_members_come_scheme_by_scheme_rate_by_rate(digits):
    found = sweep(
        MODELS["plain"], digits, lrs=[0.1, 0.2], seeds=[4, 2], schemes=["he", "lecun"]
    )
    assert found.runs[:5] == (
        Run("he", 0.1, 4),
        Run("he", 0.1, 2),
        Run("he", 0.2, 4),
        Run("he", 0.2, 2),
        Run("lecun", 0.1, 4),
    )
    assert found.settings[Setting("lecun", 0.2)] == [6, 7]
    for k, run in enumerate(found.runs):
        losses, _ = alone(MODELS["plain"], digits, run, run.scheme)
        torch.testing.assert_close(found.losses[k], losses, rtol=1e-4, atol=1e-5)


def test_schemes_can_be_functions_with_labels(digits):
    tanh = partial(initialize_, scheme="he", activation="tanh")
    schemes = {"own": None, "tanh": tanh, "named": "he"}
    model = MODELS["plain"]
    found = sweep(model, digits, lrs=[0.1], schemes=schemes, activation="tanh")
    assert [run.scheme for run in found.runs] == ["own", "tanh", "named"]
    assert torch.equal(found.losses[1], found.losses[2])
    losses, _ = alone(model, digits, found.runs[0])
    torch.testing.assert_close(found.losses[0], losses, rtol=1e-4, atol=1e-5)


def test_a_sweep_takes_and_leaves_torch_random_state_as_it_is(digits):
    state = torch.get_rng_state()
    first = sweep(MODELS["plain"], digits, lrs=[0.1], seeds=[0, 1])
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    second = sweep(MODELS["plain"], digits, lrs=[0.1], seeds=[0, 1])
    assert torch.equal(first.losses, second.losses)
    assert not torch.equal(first.losses[0], first.losses[1])


def test_steps_start_the_batches_again(digits):
    found = sweep(MODELS["plain"], digits[:3], lrs=[0.1], steps=7)
    losses, _ = alone(MODELS["plain"], (digits[:3] * 3)[:7], found.runs[0])
    torch.testing.assert_close(found.losses[0], losses, rtol=1e-4, atol=1e-5)


NAN, INF = math.nan, math.inf
RESULT = SweepResult(
    runs=tuple(Run(s, lr, seed) for s, lr in [("he", 0.1), ("he", 1.0),
                  ("torch", 10.0)] for seed in (0, 1)),
    losses=torch.tensor(
        [[3.0, 1.0], [3.0, 2.0], [3.0, 0.5], [9e9, NAN], [9e9, NAN], [INF, NAN]],
        dtype=torch.float64,
    ),
    gradient_norms=torch.ones(6, 2).double(),
    diverged_at=(None, None, None, 0, 0, 0),
)  # fmt: skip


def test_the_table():
    assert str(RESULT) == (
        "scheme   lr  final loss  least  most  diverged\n"
        "he      0.1         1.5      1     2       0/2\n"
        "he        1         0.5    0.5   0.5       1/2\n"
        "torch    10           -      -     -       2/2"
    )


def test_the_best_setting_holds_for_every_seed():
    assert RESULT.best() == ("he", 0.1)
    assert RESULT.final_losses.tolist() == [1.0, 2.0, 0.5, INF, INF, INF]
    assert RESULT.diverged.tolist() == [False, False, False, True, True, True]
    hopeless = SweepResult(
        RESULT.runs[2:], RESULT.losses[2:], RESULT.losses[2:], RESULT.diverged_at[2:]
    )
    with pytest.raises(ValueError, match="best: expected a setting at which no seed"):
        hopeless.best()


def test_the_final_loss_is_the_mean_of_the_last_tenth():
    losses = torch.arange(20.0).double()[None]
    found = SweepResult((Run("he", 0.1, 0),), losses, losses, (None,))
    assert found.final_losses.tolist() == [18.5]


def test_a_history_ends_where_its_run_diverged():
    history = RESULT.history(3)
    assert history.diverged_at == 0
    assert history.to_dict() == {
        "step": [0],
        "loss": [9e9],
        "gradient_norm": [1.0],
        "learning_rate": [1.0],
    }
    assert len(RESULT.history(0)) == 2


ONE = nn.Linear(16, 10)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": ONE}, TypeError, "model: expected a function .* got Linear. Write"),
        ({"model": 3}, TypeError, "model: expected a function that makes .* got int"),
        ({"model": lambda: 3}, TypeError, "got one that makes int. Write for example"),
        (
            {"model": lambda: ONE, "seeds": [0, 1]},
            ValueError,
            "got one that gives the same model again",
        ),
        ({"model": nn.ReLU}, ValueError, "one trainable parameter, got ReLU without"),
        ({"lrs": []}, ValueError, r"lrs: expected one or more different .* got \[]"),
        ({"lrs": [0.1, 0.1]}, ValueError, "lrs: expected one or more different values"),
        ({"lrs": 0.1}, TypeError, r"lrs: expected a list, got 0.1. Write \[0.1\]"),
        ({"lrs": [-1.0]}, ValueError, "lrs: expected a finite number >= 0, got -1.0"),
        ({"seeds": []}, ValueError, "seeds: expected one or more different values"),
        ({"seeds": [0.5]}, TypeError, "seeds: expected a whole number >= 0, got float"),
        ({"schemes": "he"}, TypeError, r"schemes: expected a list, got 'he'. Write \["),
        ({"schemes": ["hee"]}, ValueError, "scheme: expected one of lecun, .* got 'he"),
        ({"momentum": 1.0}, ValueError, "momentum: .* >= 0 and < 1, got 1.0"),
        ({"momentum": -0.1}, ValueError, "momentum: expected a finite number >= 0"),
        ({"clip": 0.0}, ValueError, "clip: expected a finite number > 0, got"),
        ({"diverged_above": NAN}, ValueError, "diverged_above: expected a finite num"),
        ({"steps": 0}, ValueError, "steps: expected a whole number >= 1, got 0"),
        ({"batches": []}, ValueError, "batches: expected at least one .* got 0"),
        ({"activation": "rellu"}, ValueError, "activation: expected one of .* 'rellu"),
        (
            {"batches": [(np.ones((2, 16)), np.ones(2))]},
            TypeError,
            "inputs: expected Tensor, got ndarray",
        ),
        ({"batches": [3]}, TypeError, "batches: expected pairs .* got one"),
        (
            {"loss_fn": lambda outputs, y: outputs.detach().mean()},
            ValueError,
            "loss_fn: expected a loss with a gradient, got one without",
        ),
        (
            {"loss_fn": partial(F.cross_entropy, reduction="none")},
            ValueError,
            r"loss_fn: expected a mean loss, a scalar, got shape \(20,\)",
        ),
    ],
)
def test_wrong_arguments(digits, change, error, message):
    arguments = {"model": MODELS["plain"], "batches": digits, "lrs": [0.1], **change}
    with pytest.raises(error, match=message):
        sweep(**arguments)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 10, batch_first=True)

    def forward(self, x):
        return self.lstm(x.squeeze(1))[0][:, -1]


def test_a_model_that_vmap_cannot_run(digits):
    with pytest.raises(NotImplementedError, match=r"run Recurrent .* one by one, with"):
        sweep(Recurrent, digits, lrs=[0.1])


def test_errors_of_the_model_itself_pass_through(digits):
    with pytest.raises(RuntimeError, match=r"size|shape") as caught:
        sweep(partial(deep_mlp, 2, 4, in_features=99), digits, lrs=[0.1])
    assert caught.type is RuntimeError
