"""Training: the loop against hand-written torch, divergence, edges."""

import math
from functools import partial
from statistics import median

import pytest
import torch
from networks import tanh_network as network
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from gradlib.clip import AutoClip, clip_norm_
from gradlib.errors import DivergenceError
from gradlib.monitor import GradientMonitor
from gradlib.training import fit


def digits(count=5, size=4, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(size, 6, generator=draw),
            torch.randint(3, (size,), generator=draw),
        )
        for _ in range(count)
    ]


def by_hand(model, batches, optimizer, max_norm=None, scheduler=None):
    """The loop that a reader of the torch documentation would write."""
    losses, norms, rates = [], [], []
    for x, y in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        norms.append(clip_grad_norm_(model.parameters(), max_norm or math.inf).item())
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(loss.item())
        elif scheduler is not None:
            scheduler.step()
        losses.append(loss.item())
    return losses, norms, rates


def curves(history):
    columns = ["loss", "gradient_norm", "learning_rate"]
    return tuple(history[column] for column in columns)


def assert_same(a, b, **tolerance):
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, **(tolerance or {"rtol": 0, "atol": 0}))


def constant_loss(value):
    """A loss with that value and the gradient of the mean output."""
    return lambda outputs, targets: (
        outputs.mean() * 0.1 + (value - outputs.mean() * 0.1).detach()
    )


# The loop by hand


@pytest.mark.parametrize("max_norm", [None, 0.3])
@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_fit_is_the_loop_by_hand_to_the_last_bit(optimizer, max_norm):
    batches, ours, theirs = digits(12), network(), network()
    made = optimizer(theirs.parameters(), lr=0.1)
    expected = by_hand(theirs, batches, made, max_norm, StepLR(made, 5))
    history = fit(
        ours,
        batches,
        optimizer=optimizer,
        lr=0.1,
        clip=max_norm and partial(clip_grad_norm_, max_norm=max_norm),
        scheduler=partial(StepLR, step_size=5),
    )
    assert_same(ours, theirs)
    assert curves(history) == expected


def test_plateau_schedule_gets_the_loss():
    batches, ours, theirs = digits(1) * 6 + digits(12), network(), network()
    made = SGD(theirs.parameters(), lr=0.1)
    expected = by_hand(
        theirs, batches, made, scheduler=ReduceLROnPlateau(made, patience=1)
    )
    optimizer = SGD(ours.parameters(), lr=0.1)
    scheduler = ReduceLROnPlateau(optimizer, patience=1)
    history = fit(ours, batches, optimizer=optimizer, scheduler=scheduler)
    assert curves(history) == expected
    assert history["learning_rate"][-1] < 0.1


def test_a_schedule_is_any_object_with_a_step():
    class Halving:
        def __init__(self, optimizer):
            self.group = optimizer.param_groups[0]

        def step(self):
            self.group["lr"] /= 2

    history = fit(network(), digits(3), lr=0.4, scheduler=Halving)
    assert history["learning_rate"] == [0.4, 0.2, 0.1]


def test_micro_batches_give_the_gradient_of_the_whole_batch():
    batches, ours, theirs = digits(8), network(), network()
    whole = [
        tuple(map(torch.cat, zip(*batches[start : start + 4], strict=True)))
        for start in (0, 4)
    ]
    expected = fit(theirs, whole, lr=0.3)
    history = fit(ours, batches, lr=0.3, accumulate=4)
    assert_same(ours, theirs, rtol=1e-5, atol=1e-6)
    for column in ("loss", "gradient_norm"):
        torch.testing.assert_close(
            torch.tensor(history[column]), torch.tensor(expected[column])
        )


def test_a_smaller_last_group_still_has_the_mean_loss():
    batches, ours, theirs = digits(3), network(), network()
    history = fit(ours, batches, lr=0.0, accumulate=2)
    expected = fit(theirs, batches, lr=0.0)["loss"]
    assert history["loss"] == pytest.approx([sum(expected[:2]) / 2, expected[2]])


@pytest.mark.parametrize("labels", ["of classes", "some ignored", "numbers"])
def test_micro_batches_weigh_as_much_as_they_hold(labels):
    x, y = map(torch.cat, zip(*digits(3), strict=True))
    loss_fn = F.cross_entropy
    if labels == "some ignored":
        y = y.clone()
        y[:4] = y[6] = -100
    if labels == "numbers":
        y, loss_fn = F.one_hot(y, 3).float(), F.mse_loss
    ours, theirs = network(), network()
    parts = list(zip(x.split([4, 3, 5]), y.split([4, 3, 5]), strict=True))
    history = fit(ours, parts, lr=0.3, accumulate=3, loss_fn=loss_fn)
    expected = fit(theirs, [(x, y)], lr=0.3, loss_fn=loss_fn)
    assert_same(ours, theirs, rtol=1e-5, atol=1e-6)
    assert history["loss"] == pytest.approx(expected["loss"])


def test_counts_may_be_given():
    x, y = digits(1)[0]
    given, ours, theirs = [], network(), network()

    def count(batch):
        given.append(batch)
        return 3 if len(given) == 1 else 1

    fit(ours, [(x, y), (-x, y)], lr=0.3, accumulate=2, count=count)
    loss = 0.75 * F.cross_entropy(theirs(x), y) + 0.25 * F.cross_entropy(theirs(-x), y)
    loss.backward()
    SGD(theirs.parameters(), lr=0.3).step()
    assert_same(ours, theirs, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="count: expected a finite number >= 0, got -"):
        fit(network(), digits(2), lr=0.1, accumulate=2, count=lambda batch: -1)


class Outputs:
    """Gives its loss as models of transformers do."""

    def __init__(self, loss):
        self.loss = loss


@pytest.mark.parametrize(
    "of", [lambda x: x, lambda x: {"loss": x}, Outputs, lambda x: (x, "more")]
)
def test_a_model_may_compute_its_own_loss(of):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, x, labels):
            return of(F.cross_entropy(self.net(x), labels))

    ours, theirs = Model(), network()
    batches = [{"x": x, "labels": y} for x, y in digits(4)]
    history = fit(ours, batches, lr=0.1, accumulate=2, loss=lambda model, b: model(**b))
    expected = fit(theirs, digits(4), lr=0.1, accumulate=2)
    assert history["loss"] == pytest.approx(expected["loss"])
    assert_same(ours.net, theirs, rtol=1e-5, atol=1e-6)


def test_a_loss_function_may_give_more_than_the_loss():
    history = fit(
        network(), digits(2), lr=0.1, loss_fn=lambda o, y: (F.cross_entropy(o, y), o)
    )
    assert history["loss"] == fit(network(), digits(2), lr=0.1)["loss"]


def test_bfloat16_is_autocast_by_hand():
    batches, ours, theirs = digits(5), network(), network()
    history = fit(ours, batches, lr=0.1, autocast=torch.bfloat16)
    optimizer = SGD(theirs.parameters(), lr=0.1)
    losses = []
    for x, y in batches:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(theirs(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert_same(ours, theirs)
    assert history["loss"] == losses
    assert losses != fit(network(), batches, lr=0.1)["loss"]


@pytest.mark.parametrize("init_scale", [2.0**10, 2.0**40])
def test_float16_with_a_scaler_is_the_loop_by_hand(init_scale):
    """At 2^40 the first steps overflow and are skipped."""
    batches, ours, theirs = digits(30), network(), network()

    def scaler():
        return torch.amp.GradScaler("cpu", init_scale=init_scale)

    history = fit(
        ours,
        batches,
        lr=0.1,
        clip=partial(clip_grad_norm_, max_norm=0.3),
        autocast=torch.float16,
        scaler=scaler(),
    )
    optimizer, scale = SGD(theirs.parameters(), lr=0.1), scaler()
    norms, scales = [], []
    for x, y in batches:
        scales.append(scale.get_scale())
        with torch.autocast("cpu", dtype=torch.float16):
            loss = F.cross_entropy(theirs(x), y)
        scale.scale(loss).backward()
        scale.unscale_(optimizer)
        norms.append(clip_grad_norm_(theirs.parameters(), 0.3).item())
        scale.step(optimizer)
        scale.update()
        optimizer.zero_grad()
    assert_same(ours, theirs)
    assert list(map(str, history["gradient_norm"])) == list(map(str, norms))
    assert history["loss_scale"] == scales
    skipped = [float(not math.isfinite(norm)) for norm in norms]
    assert history["skipped"] == skipped
    assert (sum(skipped) > 0) == (init_scale > 2.0**20)


def test_a_skipped_step_does_not_advance_the_schedule():
    history = fit(
        network(),
        digits(30),
        lr=0.1,
        autocast=torch.float16,
        scaler=torch.amp.GradScaler("cpu", init_scale=2.0**40),
        scheduler=partial(StepLR, step_size=1, gamma=0.5),
    )
    first_step = history["skipped"].index(0.0)
    assert first_step > 3
    assert history["learning_rate"][first_step] == 0.1
    assert history["learning_rate"][first_step + 1] == 0.05


def test_a_disabled_scaler_is_none():
    batches, ours, theirs = digits(3), network(), network()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    history = fit(ours, batches, lr=0.1, scaler=scaler)
    assert curves(history) == curves(fit(theirs, batches, lr=0.1))
    assert "loss_scale" not in history


def test_order_is_unscale_measure_clip_step_schedule_zero():
    events = []

    def noting(owner, name):
        original = getattr(owner, name)

        def noted(*arguments, **keywords):
            events.append(name)
            return original(*arguments, **keywords)

        setattr(owner, name, noted)
        return owner

    class Schedule:
        def step(self):
            events.append("schedule")

    model = network()
    optimizer = noting(SGD(model.parameters(), lr=0.1), "zero_grad")
    optimizer.register_step_post_hook(lambda *_: events.append("step"))
    fit(
        model,
        digits(1),
        optimizer=optimizer,
        scheduler=Schedule(),
        scaler=noting(torch.amp.GradScaler("cpu", init_scale=8.0), "unscale_"),
        monitor=noting(GradientMonitor(model), "log"),
        clip=lambda parameters: events.append("clip"),
    )
    assert events[0] == "zero_grad"
    assert events[1:] == ["unscale_", "log", "clip", "step", "schedule", "zero_grad"]


# Columns


def test_the_recorded_norm_is_that_before_clipping():
    norms = fit(network(), digits(6), lr=0.0)["gradient_norm"]
    clip = partial(clip_grad_norm_, max_norm=median(norms))
    history = fit(network(), digits(6), lr=0.0, clip=clip)
    assert history["gradient_norm"] == norms
    assert history["clipped"] == [float(norm > median(norms)) for norm in norms]
    assert sum(history["clipped"]) == 3


def test_clipped_tells_of_any_change():
    clip = partial(clip_grad_value_, clip_value=1e-3)
    assert fit(network(), digits(2), lr=0.1, clip=clip)["clipped"] == [1.0, 1.0]
    assert fit(network(), digits(2), lr=0.1)["clipped"] == [0.0, 0.0]


def test_a_norm_beyond_float32_is_taken_again_in_float64():
    p = nn.Linear(2, 1, bias=False)
    batches = [(torch.tensor([[3e30, 4e30]]), torch.zeros(1, 1))]
    history = fit(
        p, batches, lr=0.0, loss_fn=lambda out, y: out.mean(), diverged_above=math.inf
    )
    assert history["gradient_norm"] == pytest.approx([5e30])


# Batches


def test_a_list_starts_again_until_the_steps_are_done():
    batches = digits(3)
    history = fit(network(), batches, lr=0.1, steps=7)
    repeated = [*batches, *batches, batches[0]]
    assert curves(history) == curves(fit(network(), repeated, lr=0.1))


def test_a_generator_is_read_no_further_than_needed():
    source = iter(digits(5))
    history = fit(network(), source, lr=0.1, steps=2, accumulate=2)
    assert len(history) == 2
    assert len(list(source)) == 1


def test_a_generator_that_ends_early_is_an_error():
    with pytest.raises(ValueError, match=r"4 steps of 2, but they ended in step 2"):
        fit(network(), iter(digits(5)), lr=0.1, steps=4, accumulate=2)


@pytest.mark.parametrize("steps", [None, 3])
def test_empty_batches_are_an_error(steps):
    with pytest.raises(ValueError, match="batches: expected"):
        fit(network(), [], lr=0.1, steps=steps)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([torch.zeros(2, 6)], r"pairs \(inputs, targets\), got one \(Tensor\)"),
        ([(1, 2, 3)], r"got 3 items \(tuple\)"),
    ],
)
def test_batches_are_pairs(batches, message):
    with pytest.raises(TypeError, match=message):
        fit(network(), batches, lr=0.1)


# Divergence


def diverging(losses, **keywords):
    """A run with these losses, and the model at the start and the end."""
    values = iter(losses)
    model = network()
    history = fit(
        model,
        digits(len(losses)),
        loss_fn=lambda outputs, y: constant_loss(next(values))(outputs, y),
        **{"lr": 0.1, **keywords},
    )
    return history, model


@pytest.mark.parametrize("bad", [math.nan, math.inf, 3001.0])
def test_divergence_raises_with_the_history(bad):
    with pytest.raises(DivergenceError, match="diverged at step 2") as caught:
        diverging([3.0, 3000.0, bad, 1.0])
    error = caught.value
    assert (error.step, str(error.loss)) == (2, str(bad))
    assert list(map(str, error.history["loss"])) == ["3.0", "3000.0", str(bad)]
    assert error.history.diverged_at == 2


def test_divergence_can_stop_the_run_instead():
    history, _ = diverging([3.0, math.nan, 1.0], stop_at_divergence="stop")
    assert history.diverged_at == 1
    assert len(history) == 2
    assert len(history["gradient_norm"]) == 2


def test_the_default_limit_is_a_thousand_times_the_first_loss_but_at_least_that():
    history, _ = diverging([0.01, 999.0])
    assert history.diverged_at is None
    with pytest.raises(DivergenceError, match="above 1000"):
        diverging([0.01, 1001.0])


def test_the_limit_can_be_set_or_lifted():
    with pytest.raises(DivergenceError, match=r"loss is 2.5 \(above 2\)"):
        diverging([1.0, 2.5], diverged_above=2.0)
    history, _ = diverging([1.0, 1e30], diverged_above=math.inf)
    assert history.diverged_at is None


def test_a_diverged_run_stops_before_the_step_and_keeps_the_gradients():
    _, model = diverging([1.0, math.nan], stop_at_divergence="stop")
    _, one_step = diverging([1.0])
    assert_same(model, one_step)
    assert all(p.grad is not None for p in model.parameters())
    assert all(p.grad is None for p in one_step.parameters())


def poisoned(kind="nan"):
    """A network whose first weight gets a gradient that is not finite."""
    model = network()
    model[0].weight.register_hook(lambda gradient: gradient + float(kind))
    return model


@pytest.mark.parametrize("kind", ["nan", "inf"])
def test_a_broken_gradient_is_divergence_and_named(kind):
    model = poisoned(kind)
    with pytest.raises(DivergenceError, match=rf"{kind} in the gradient of 0\.weight"):
        fit(model, digits(1), lr=0.1)


def test_a_clip_that_refuses_a_broken_gradient_is_divergence():
    model = poisoned()
    with pytest.raises(DivergenceError, match=r"nan in the gradient of 0\.weight"):
        fit(model, digits(1), lr=0.1, clip=partial(clip_norm_, max_norm=1.0))


def test_a_clip_that_repairs_a_broken_gradient_lets_the_run_go_on():
    def repair(parameters):
        for p in parameters:
            p.grad.nan_to_num_(0.0)

    history = fit(poisoned(), digits(3), lr=0.1, clip=repair)
    assert len(history) == 3
    assert history["clipped"] == [1.0] * 3


def test_a_scaler_skips_a_broken_gradient_and_never_clips_it():
    history = fit(
        poisoned(),
        digits(2),
        lr=0.1,
        scaler=torch.amp.GradScaler("cpu"),
        clip=lambda parameters: pytest.fail("clipped"),
    )
    assert history["skipped"] == [1.0, 1.0]


# Model, optimizer and monitor


def test_gradients_from_before_do_not_count():
    model = network()
    F.cross_entropy(model(torch.ones(2, 6)), torch.tensor([0, 1])).backward()
    assert curves(fit(model, digits(3), lr=0.1)) == curves(
        fit(network(), digits(3), lr=0.1)
    )


def test_evaluation_mode_is_lifted_for_the_run_and_restored():
    modes = []
    model = network(nn.Dropout(0.5)).eval()
    model[0].register_forward_hook(lambda module, *_: modes.append(module.training))
    fit(model, digits(2), lr=0.1)
    assert modes == [True, True]
    assert not any(module.training for module in model.modules())


def test_a_frozen_layer_of_a_model_in_training_stays_frozen():
    model = network(nn.BatchNorm1d(8))
    model[2].eval()
    fit(model, digits(3), lr=0.1)
    assert model[2].num_batches_tracked == 0
    assert model.training


def test_modes_are_restored_after_divergence():
    model = poisoned().eval()
    with pytest.raises(DivergenceError):
        fit(model, digits(1), lr=0.1)
    assert not model.training


def test_parameters_without_gradient_are_left_alone():
    model = network()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    history = fit(model, digits(3), lr=0.1)
    torch.testing.assert_close(model[0].weight, before, rtol=0, atol=0)
    assert history["gradient_norm"][0] > 0


def test_clip_gets_the_parameters_of_the_optimizer():
    model, seen = network(), []
    fit(
        model,
        digits(1),
        optimizer=SGD(model[2].parameters(), lr=0.1),
        clip=lambda parameters: seen.extend(parameters),
    )
    assert [id(p) for p in seen] == [id(p) for p in model[2].parameters()]


def test_fit_opens_and_closes_a_new_monitor():
    model = network()
    monitor = GradientMonitor(model)
    history = fit(
        model,
        digits(3),
        lr=0.1,
        monitor=monitor,
        clip=partial(clip_grad_norm_, max_norm=1e-3),
    )
    assert not monitor.is_open
    for column in ("loss", "learning_rate", "gradient_norm"):
        assert monitor.history[column] == pytest.approx(history[column])


def test_fit_leaves_an_open_monitor_open():
    model = network()
    with GradientMonitor(model) as monitor:
        fit(model, digits(2), lr=0.1, monitor=monitor)
        fit(model, digits(2), lr=0.1, monitor=monitor)
        assert monitor.is_open
    assert monitor.history["step"] == [0, 1, 2, 3]


def test_a_monitor_is_closed_after_divergence():
    model = poisoned()
    monitor = GradientMonitor(model, activations=True)
    with pytest.raises(DivergenceError):
        fit(model, digits(1), lr=0.1, monitor=monitor)
    assert not monitor.is_open
    assert not any(module._forward_hooks for module in model.modules())


def test_fit_draws_no_random_numbers():
    before = torch.get_rng_state()
    fit(network(), digits(3), lr=0.1)
    assert torch.equal(torch.get_rng_state(), before)


def test_progress_is_silent_unless_asked_for(capsys):
    fit(network(), digits(2), lr=0.1)
    quiet = capsys.readouterr()
    assert quiet.out + quiet.err == ""
    fit(network(), digits(2), lr=0.1, steps=2, progress=True)
    assert "2/2" in capsys.readouterr().err


FROZEN = network().requires_grad_(False)


@pytest.mark.parametrize(
    ("model", "keywords", "error", "message"),
    [
        (network(), {}, ValueError, "expected lr or optimizer, got neither"),
        (network(), {"lr": -1.0}, ValueError, "lr: expected a finite number >= 0"),
        (network(), {"optimizer": "sgd"}, TypeError, "optimizer: .*got str"),
        (network(), {"optimizer": list}, TypeError, "make a torch.optim.*got list"),
        (
            network(),
            {"optimizer": SGD(network().parameters(), lr=0.1)},
            ValueError,
            "holds trainable parameters of this model",
        ),
        (network(), {"lr": 0.1, "clip": "1"}, TypeError, "clip: .*got '1'. Write"),
        (network(), {"lr": 0.1, "steps": 0}, ValueError, "steps: expected .* >= 1"),
        (network(), {"lr": 0.1, "accumulate": 0}, ValueError, "accumulate: .* >= 1"),
        (network(), {"lr": 0.1, "scheduler": 3}, TypeError, "scheduler: .*got int"),
        (
            network(),
            {"lr": 0.1, "scheduler": StepLR(SGD(network().parameters(), lr=0.1), 1)},
            ValueError,
            "scheduler: expected one of this run's optimizer",
        ),
        (
            network(),
            {"lr": 0.1, "stop_at_divergence": "no"},
            ValueError,
            "stop_at_divergence: expected one of raise, stop; got 'no'",
        ),
        (
            network(),
            {"lr": 0.1, "diverged_above": math.nan},
            ValueError,
            "diverged_above: expected a finite number > 0, got nan",
        ),
        (
            network(),
            {"lr": 0.1, "loss_fn": lambda outputs, y: outputs},
            ValueError,
            r"loss_fn: expected a mean loss, a scalar, got shape \(4, 3\)",
        ),
        (
            network(),
            {"lr": 0.1, "loss_fn": lambda outputs, y: 1.0},
            TypeError,
            "loss_fn: expected Tensor, got float",
        ),
        (
            network(),
            {"lr": 0.1, "loss_fn": lambda outputs, y: outputs.detach().sum()},
            ValueError,
            "loss_fn: expected a loss with a gradient, got one without",
        ),
        (
            network(),
            {"lr": 0.1, "loss_fn": nn.CrossEntropyLoss},
            TypeError,
            r"got the class CrossEntropyLoss. Write CrossEntropyLoss\(\)",
        ),
        (
            network(),
            {"lr": 0.1, "clip": AutoClip},
            TypeError,
            r"clip: .*got the class AutoClip. Write AutoClip\(\)",
        ),
        (
            network(),
            {"lr": 0.1, "scheduler": lambda optimizer: None},
            TypeError,
            r"scheduler: .* make an object with step\(\), got NoneType",
        ),
        (
            network(),
            {"lr": 0.1, "autocast": torch.float32},
            ValueError,
            "autocast: expected torch.bfloat16, .* got torch.float32",
        ),
        (
            network(),
            {"optimizer": torch.optim.LBFGS},
            ValueError,
            "whose step needs no closure, got LBFGS",
        ),
        (
            network(),
            {"lr": 0.1, "loss": lambda m, b: m(b[0]), "loss_fn": F.mse_loss},
            ValueError,
            "loss, loss_fn: expected one of the two",
        ),
        (
            network(),
            {"lr": 0.1, "loss": lambda model, batch: model(batch[0])},
            ValueError,
            r"loss: expected a mean loss, a scalar, got shape \(4, 3\)",
        ),
        (network(), {"lr": 0.1, "loss": 3}, TypeError, "loss: expected a function"),
        (network(), {"lr": 0.1, "count": 3}, TypeError, "count: expected a function"),
        (FROZEN, {"lr": 0.1}, ValueError, "at least one trainable parameter"),
        (nn.Tanh(), {"lr": 0.1}, ValueError, "got Tanh without any"),
    ],
)
def test_fit_says_what_is_wrong(model, keywords, error, message):
    with pytest.raises(error, match=message):
        fit(model, digits(1), **keywords)


def test_a_ready_optimizer_has_its_own_rate():
    model = network()
    with pytest.raises(ValueError, match="lr: expected none beside a ready optimizer"):
        fit(model, digits(1), optimizer=Adam(model.parameters()), lr=0.1)
