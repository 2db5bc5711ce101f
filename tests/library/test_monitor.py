"""The monitor: the same numbers as by hand, and no trace of it."""

import copy
import gc
import math
import pickle

import numpy as np
import pytest
import torch
from networks import relu_network as network
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.overrides import TorchFunctionMode

from gradlib.measure import (
    NonFinite,
    gradient_norms,
    parameter_norms,
    snapshot,
    total_norm,
    update_ratios,
)
from gradlib.monitor import GradientMonitor


def batch(seed, size=5):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 6, generator=draw)
    return x, x[:, :3].argmax(dim=1)


def train(model, steps, monitor=None, each_step=lambda: None, loss_of=None):
    """A loop as a reader would write it."""
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    for seed in range(steps):
        x, y = batch(seed)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if monitor is not None:
            monitor.log(loss if loss_of is None else loss_of(loss))
        each_step()
        optimizer.step()


# The numbers


def test_norms_and_updates_are_those_of_measure():
    model, rows, before = network(), [], []

    def by_hand():
        if before:
            rows[-1]["update_ratio"] = update_ratios(model, before[-1])
        rows.append(
            {
                "gradient_norm": gradient_norms(model),
                "parameter_norm": parameter_norms(model),
                "total": total_norm(model.parameters()).item(),
            }
        )
        before.append(snapshot(model))

    with GradientMonitor(model, updates_every=1) as monitor:
        train(model, 4, monitor, by_hand)
    rows[-1]["update_ratio"] = update_ratios(model, before[-1])

    assert len(monitor.history) == 4
    for quantity in ("gradient_norm", "parameter_norm", "update_ratio"):
        found = monitor.history.layers(quantity)
        assert list(found) == [name for name, _ in model.named_parameters()]
        for name, values in found.items():
            expected = [row[quantity][name] for row in rows]
            assert values == pytest.approx(expected, rel=1e-6)
    totals = [row["total"] for row in rows]
    assert monitor.history["gradient_norm"] == pytest.approx(totals, rel=1e-6)


@pytest.mark.parametrize("of", [lambda loss: loss, lambda loss: loss.item()])
def test_the_loss_may_be_a_tensor_or_a_number(of):
    losses, model = [], network()
    with GradientMonitor(model) as monitor:
        train(model, 3, monitor, loss_of=lambda x: losses.append(x.item()) or of(x))
    assert monitor.history["loss"] == losses


def test_the_loss_may_be_left_out_and_more_columns_be_given():
    model = network()
    model(batch(0)[0]).sum().backward()
    with GradientMonitor(model) as monitor:
        monitor.log(learning_rate=0.1, clipped=True)
    assert "loss" not in monitor.history
    assert monitor.history["learning_rate"] == [0.1]
    assert monitor.history["clipped"] == [1.0]


@pytest.mark.parametrize(
    ("every", "updates_every", "recorded", "updated"),
    [
        (1, None, list(range(215)), [0, 200]),
        (10, None, list(range(0, 215, 10)), [0, 200]),
        (30, None, list(range(0, 215, 30)), [0, 210]),
        (204, None, [0, 204], [0, 204]),
        (2, 4, list(range(0, 215, 2)), list(range(0, 215, 4))),
    ],
)
def test_intervals(every, updates_every, recorded, updated):
    model = network()
    with GradientMonitor(model, every, updates_every=updates_every) as monitor:
        train(model, 215, monitor)
    history = monitor.history
    assert history["step"] == recorded
    assert history.recorded("gradient_norm/0.weight")[0] == recorded
    assert history.recorded("parameter_norm/0.weight")[0] == updated
    assert history.recorded("update_ratio/0.weight")[0] == updated


def test_intervals_do_not_change_the_numbers():
    all_steps, some = network(), network()
    with GradientMonitor(all_steps, updates_every=1) as expected:
        train(all_steps, 9, expected)
    with GradientMonitor(some, every=4, updates_every=8) as monitor:
        train(some, 9, monitor)
    for column in ("loss", "gradient_norm/0.weight"):
        values = expected.history[column]
        assert monitor.history[column] == [values[0], values[4], values[8]]
    ratios = expected.history["update_ratio/0.weight"]
    assert monitor.history.recorded("update_ratio/0.weight") == (
        [0, 8],
        [ratios[0], ratios[8]],
    )


def test_an_update_that_an_exception_cut_off_is_not_recorded():
    model = network()
    monitor = GradientMonitor(model, updates_every=1)

    def run():
        with monitor:
            train(model, 1, monitor)
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert "parameter_norm/0.weight" in monitor.history
    assert "update_ratio/0.weight" not in monitor.history


def test_a_parameter_of_zeros_has_an_infinite_ratio_once_it_moves():
    model = nn.Linear(2, 1)
    nn.init.zeros_(model.bias)
    nn.init.zeros_(model.weight)
    with GradientMonitor(model, updates_every=1) as monitor:
        model(torch.zeros(1, 2)).backward()
        monitor.log()
        with torch.no_grad():
            model.bias += 1.0
    assert monitor.history["update_ratio/bias"] == [math.inf]
    assert monitor.history["update_ratio/weight"] == [0.0]
    assert monitor.first_nonfinite is None


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_norms_beyond_float32_are_exact(size):
    model = nn.Linear(2, 1, bias=False)
    model(torch.tensor([[3 * size, 4 * size]])).backward()
    with GradientMonitor(model) as monitor:
        monitor.log()
    assert monitor.history["gradient_norm/weight"] == pytest.approx(
        [5 * size], rel=1e-6, abs=0
    )
    assert monitor.history["gradient_norm"] == pytest.approx(
        [5 * size], rel=1e-6, abs=0
    )
    assert monitor.first_nonfinite is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision(dtype):
    model = network().to(dtype)
    with GradientMonitor(model, activations=True) as monitor:
        outputs = model(batch(0)[0].to(dtype))
        outputs.double().square().sum().backward()
        monitor.log()
    expected = outputs.double().std(correction=0).item()
    assert monitor.history["activation_std/2"] == pytest.approx([expected], rel=1e-6)
    found = {n: v[0] for n, v in monitor.history.layers("gradient_norm").items()}
    assert found == pytest.approx(gradient_norms(model), rel=1e-6)


@pytest.mark.parametrize("size", [1.0, 1e-30])
def test_sparse_gradients(size):
    model = nn.Embedding(10, 4, sparse=True)
    (size * model(torch.tensor([1, 1, 2])).sum()).backward()
    with GradientMonitor(model) as monitor:
        monitor.log()
    expected = size * math.sqrt(4 * (4 + 1))
    assert monitor.history["gradient_norm"] == pytest.approx(
        [expected], rel=1e-6, abs=0
    )


def test_parameters_without_gradient_are_left_out_of_the_row():
    model = network()
    model[2](torch.ones(2, 8)).sum().backward()
    model[0].bias.requires_grad_(False)
    with GradientMonitor(model) as monitor:
        monitor.log()
    history = monitor.history
    assert list(history.layers("gradient_norm")) == ["2.weight", "2.bias"]
    assert list(history.layers("parameter_norm")) == ["0.weight", "2.weight", "2.bias"]


# Activations


def test_activations_are_those_of_numpy():
    model, outputs = network(), []
    model[1].register_forward_hook(lambda *got: outputs.append(got[2].detach().numpy()))
    with GradientMonitor(model, activations=True) as monitor:
        train(model, 3, monitor)
    for what, function in [
        ("mean", np.mean),
        ("std", np.std),
        ("zeros", lambda x: np.mean(x == 0)),
    ]:
        expected = [float(function(output)) for output in outputs]
        assert monitor.history[f"activation_{what}/1"] == pytest.approx(expected)
    assert 0 < monitor.history["activation_zeros/1"][0] < 1


def test_activations_are_recorded_at_the_interval_only():
    model, hooks = network(), []
    with GradientMonitor(model, every=2, activations=True) as monitor:
        train(model, 4, monitor, lambda: hooks.append(len(model[1]._forward_hooks)))
    assert monitor.history.recorded("activation_std/1")[0] == [0, 2]
    assert hooks == [0, 1, 0, 1]


def test_evaluation_without_gradients_is_left_out():
    model = network()
    with GradientMonitor(model, activations=True) as monitor:
        loss = model(torch.zeros(1, 6)).sum()
        loss.backward()
        with torch.no_grad():
            model(torch.ones(4, 6))
        monitor.log(loss)
    assert monitor.history["activation_mean/0"] == pytest.approx(
        [model[0].bias.mean().item()]
    )


def test_a_module_that_did_not_run_has_no_activation():
    model = network()
    with GradientMonitor(model, activations=True) as monitor:
        train(model, 1, monitor)
        model[2](torch.ones(1, 8)).sum().backward()
        monitor.log()
    assert monitor.history.recorded("activation_std/0")[0] == [0]
    assert monitor.history.recorded("activation_std/2")[0] == [0, 1]


def test_the_first_tensor_of_a_tuple_counts_and_empty_or_whole_numbers_do_not():
    class Split(nn.Module):
        def forward(self, x):
            return (x, x + 1), x.argmax(), None

    class Whole(nn.Module):
        def forward(self, x):
            return x[0][0].argmax(dim=1), x[0][0]

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(8))

        def forward(self, x):
            return self.weight * x[1]

    model = nn.Sequential(nn.Linear(6, 8), Split(), Whole(), Last())
    with GradientMonitor(model, activations=True) as monitor:
        model(batch(0)[0]).sum().backward()
        monitor.log()
    history = monitor.history
    assert history["activation_std/1"] == history["activation_std/0"]
    assert list(history.layers("activation_std")) == ["0", "1", "3"]


def test_a_model_that_is_one_layer_goes_by_its_class():
    model = nn.Linear(2, 1)
    with GradientMonitor(model, activations=True) as monitor:
        model(torch.ones(3, 2)).sum().backward()
        monitor.log()
    assert list(monitor.history.layers("activation_std")) == ["Linear"]


class Reads(TorchFunctionMode):
    """Counts what makes the host wait for the device."""

    waiting = ("item", "tolist", "__float__", "__bool__", "__int__")
    count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += function.__name__ in self.waiting
        return function(*args, **(kwargs or {}))


@pytest.mark.usefixtures("accelerator")
def test_a_recorded_step_reads_the_device_once_and_for_parameters_and_updates():
    model, counts = network(), []
    with GradientMonitor(model, 2, updates_every=2, activations=True) as monitor:
        model(batch(0)[0]).sum().backward()
        for _ in range(4):
            with Reads() as reads:
                monitor.log(torch.tensor(1.0))
            counts.append(reads.count)
    assert counts == [2, 1, 2, 1]
    with GradientMonitor(model, 2) as monitor:
        for _ in range(204):
            with Reads() as reads:
                monitor.log(torch.tensor(1.0))
            counts.append(reads.count)
    due = [(step % 2 == 0) + (step % 200 in (0, 1)) for step in range(204)]
    assert counts[4:] == due


# What is not finite


class Shift(nn.Module):
    amount = 0.0

    def forward(self, x):
        return x + self.amount


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("parameter", "3.bias"),
        ("forward", "2"),
        ("loss", "loss"),
        ("backward", "0.bias"),
    ],
)
def test_the_first_that_is_not_finite_is_named(where, name, value):
    model = network(Shift())
    kind = "nan" if math.isnan(value) else "inf"

    with GradientMonitor(model, activations=True) as monitor:
        train(model, 2, monitor)
        assert monitor.first_nonfinite is None
        x, y = batch(0)
        if where == "parameter":
            model[3].bias.data[0] = value
        if where == "forward":
            model[2].amount = value
        if where == "backward":
            for p in model[0].parameters():
                p.register_hook(lambda gradient: gradient + value)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        monitor.log(loss * value if where == "loss" else loss)
        model[0].weight.grad = torch.full_like(model[0].weight, -value)
        monitor.log(loss)
    assert monitor.first_nonfinite == NonFinite(name, where, kind)
    assert monitor.first_nonfinite_step == 2


class Aside(nn.Module):
    """Its second layer does not reach the loss."""

    def __init__(self):
        super().__init__()
        self.used, self.aside = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        self.aside(x)
        return self.used(x)


@pytest.mark.parametrize(
    ("activations", "expected"),
    [
        (False, NonFinite("aside.bias", "parameter", "inf")),
        (True, NonFinite("aside", "forward", "inf")),
    ],
)
def test_what_does_not_reach_the_loss_is_named_too(activations, expected):
    model = Aside()
    if activations:
        model.aside.register_forward_hook(lambda module, x, output: output.abs() / 0)
    else:
        model.aside.bias.data[0] = math.inf
    with GradientMonitor(model, activations=activations) as monitor:
        model(batch(0)[0]).square().sum().backward()
        monitor.log()
    assert monitor.first_nonfinite == expected


# No trace


def hooks(model):
    return [len(m._forward_hooks) for m in model.modules()]


@pytest.mark.parametrize("activations", [False, True])
def test_a_watched_training_is_the_same_to_the_last_bit(activations):
    plain, watched = network(nn.Dropout(0.2)), network(nn.Dropout(0.2))
    states = []
    for model in (plain, watched):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            if model is plain:
                train(model, 5)
            else:
                with GradientMonitor(
                    model, 2, updates_every=2, activations=activations
                ) as monitor:
                    train(model, 5, monitor)
            states.append((model.state_dict(), torch.get_rng_state()))
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert all(p.grad is not None for p in watched.parameters())


@pytest.mark.parametrize("fails", [False, True])
def test_hooks_are_gone_at_the_end(fails):
    model = network()
    try:
        with GradientMonitor(model, activations=True) as monitor:
            assert hooks(model) == [0, 1, 1, 1]
            train(model, 2, monitor)
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert hooks(model) == [0, 0, 0, 0]
    assert not monitor.is_open
    assert len(monitor.history) == 2


def test_gradients_and_modes_are_untouched():
    model = network().eval()
    with GradientMonitor(model, updates_every=1, activations=True) as monitor:
        model(batch(0)[0]).sum().backward()
        gradients = [(p.grad, p.grad.clone()) for p in model.parameters()]
        monitor.log()
    for p, (gradient, before) in zip(model.parameters(), gradients, strict=True):
        assert p.grad is gradient
        torch.testing.assert_close(gradient, before, rtol=0, atol=0)
    assert not model.training


def test_two_monitors_watch_at_once():
    model = network()
    with (
        GradientMonitor(model, activations=True) as all_steps,
        GradientMonitor(model, 2, activations=True) as some,
    ):
        train(model, 4, all_steps, some.log)
    for column in ("activation_std/1", "gradient_norm/0.weight"):
        assert some.history[column] == all_steps.history[column][::2]


# Mistakes


def test_a_monitor_logs_only_while_open():
    model = network()
    monitor = GradientMonitor(model)
    with pytest.raises(RuntimeError, match=r"one that is new\. Call log inside `with"):
        monitor.log()
    with monitor:
        pass
    with pytest.raises(RuntimeError, match="got one that is closed"):
        monitor.log()
    with pytest.raises(RuntimeError, match="Make another GradientMonitor"), monitor:
        pass


def test_a_monitor_is_not_opened_twice():
    with (
        GradientMonitor(network()) as monitor,
        pytest.raises(
            RuntimeError, match="expected a new monitor, got one that is open"
        ),
        monitor,
    ):
        pass


def test_without_gradients_it_says_where_to_log():
    with (
        GradientMonitor(network()) as monitor,
        pytest.raises(RuntimeError, match=r"got none.*Call log after backward\(\)"),
    ):
        monitor.log()


@pytest.mark.parametrize("size", [0, 2])
def test_a_loss_is_one_number(size):
    model = network()
    model(batch(0)[0]).sum().backward()
    message = rf"loss: expected one number, got shape \({size},\)"
    with (
        GradientMonitor(model) as monitor,
        pytest.raises(ValueError, match=message),
    ):
        monitor.log(torch.ones(size))


@pytest.mark.parametrize(
    ("model", "keywords", "error", "message"),
    [
        (nn.ReLU(), {}, ValueError, "at least one trainable parameter, got ReLU"),
        ("model", {}, TypeError, "model: expected a torch.nn.Module, got str"),
        (network(), {"every": 0}, ValueError, "every: expected a whole number >= 1"),
        (
            network(),
            {"every": 3, "updates_every": 10},
            ValueError,
            "updates_every: expected a multiple of every=3, got 10",
        ),
        (network(), {"updates_every": 1.5}, TypeError, "updates_every: .*got float"),
    ],
)
def test_it_says_what_is_wrong(model, keywords, error, message):
    with pytest.raises(error, match=message):
        GradientMonitor(model, **keywords)


def alive(shape):
    """How many tensors of a shape there are."""
    gc.collect()
    tensors = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
    return sum(not nn.parameter.is_lazy(t) and t.shape == shape for t in tensors)


def test_a_closed_monitor_keeps_no_copy_of_the_parameters():
    model = nn.Linear(123, 77)
    with GradientMonitor(model) as monitor:
        model(torch.ones(2, 123)).sum().backward()
        monitor.log()
    assert alive((77, 123)) == 2, "the weight and its gradient"
    assert len(monitor.history) == 1


def test_a_copy_of_the_parameters_lives_for_one_step():
    model = nn.Linear(123, 77)
    found = []
    with GradientMonitor(model, updates_every=2) as monitor:
        for _ in range(4):
            model.zero_grad()
            model(torch.ones(2, 123)).sum().backward()
            monitor.log()
            found.append(alive((77, 123)))
    assert found == [3, 2, 3, 2], "the weight, its gradient, and the copy"


def test_a_model_whose_activations_are_watched_can_be_saved_and_copied():
    model = network()
    with GradientMonitor(model, activations=True) as monitor:
        others = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        x, y = batch(0)
        F.cross_entropy(model(x), y).backward()
        monitor.log()
        for other in others:
            F.cross_entropy(other(100 * x), y).backward()
    column = next(c for c in monitor.history.columns if c.startswith("activation_mean"))
    with torch.no_grad():
        assert monitor.history[column] == pytest.approx([float(model[0](x).mean())])


def test_rows_after_zero_grad_are_warned_of_once():
    model = network()
    with GradientMonitor(model) as monitor:
        x, y = batch(0)
        F.cross_entropy(model(x), y).backward()
        model.zero_grad(set_to_none=False)
        with pytest.warns(UserWarning, match="Call log after backward"):
            monitor.log()
        monitor.log()
    assert monitor.history["gradient_norm"] == [0.0, 0.0]


# Loops in which rows would tell something else


@pytest.mark.parametrize("keep", [False, True])
def test_rows_of_micro_batches_are_warned_of_once(keep):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch(0)

    def add():
        F.cross_entropy(model(x), y).backward()
        monitor.log()

    with GradientMonitor(model) as monitor:
        for _ in range(3):
            add()
            optimizer.step()
            optimizer.zero_grad(set_to_none=keep)
        with pytest.warns(UserWarning, match="after the last of its micro-batches"):
            add(), add()
        add()


def test_outputs_that_a_compiled_model_hides_are_warned_of():
    torch._dynamo.reset()
    model = torch.compile(network(), backend="aot_eager")
    x, y = batch(0)
    model(x)
    with GradientMonitor(model, activations=True) as monitor:
        F.cross_entropy(model(x), y).backward()
        with pytest.warns(UserWarning, match="compiled model that has run before"):
            monitor.log()
    columns = [c for c in monitor.history.columns if c.startswith("gradient_norm/")]
    assert columns == [
        f"gradient_norm/{name}" for name, _ in network().named_parameters()
    ]


@pytest.mark.parametrize("unscaled", [False, True])
def test_a_scaler_is_divided_out_where_it_still_is_in_the_gradients(unscaled):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    x, y = batch(0)
    with GradientMonitor(model) as monitor:
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        if unscaled:
            scaler.unscale_(optimizer)
        monitor.log(loss, scaler=scaler)
        if not unscaled:
            scaler.unscale_(optimizer)
    true = float(nn.utils.get_total_norm([p.grad for p in model.parameters()]))
    assert monitor.history["gradient_norm"] == pytest.approx([true], rel=1e-6)
    parts = [v[0] for v in monitor.history.layers("gradient_norm").values()]
    assert math.hypot(*parts) == pytest.approx(true, rel=1e-6)


@pytest.mark.parametrize("of", [lambda x: {"loss": x}, lambda x: (x, "more")])
def test_a_loss_may_come_with_other_outputs(of):
    model = network()
    with GradientMonitor(model) as monitor:
        loss = model(batch(0)[0]).sum()
        loss.backward()
        monitor.log(of(loss))
    assert monitor.history["loss"] == [loss.item()]


def test_layers_that_are_unfrozen_or_added_get_their_columns_then():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    model[0].requires_grad_(False)
    x, y = torch.randn(8, 4), torch.zeros(8, dtype=torch.int64)
    true = []
    with GradientMonitor(model, updates_every=1) as monitor:
        for k in range(3):
            if k == 1:
                model[0].requires_grad_(True)
            if k == 2:
                model.append(nn.Linear(3, 3))
            model.zero_grad()
            F.cross_entropy(model(x), y).backward()
            monitor.log()
            true.append(
                float(
                    nn.utils.get_total_norm(
                        [p.grad for p in model.parameters() if p.grad is not None]
                    )
                )
            )
    history = monitor.history
    assert history["gradient_norm"] == pytest.approx(true, rel=1e-6)
    for name, first in {"1.weight": 0, "0.weight": 1, "2.weight": 2}.items():
        steps = history.recorded(f"gradient_norm/{name}")[0]
        assert steps == list(range(first, 3))
        assert history.recorded(f"update_ratio/{name}")[0] == steps


def test_the_hooks_of_a_monitor_go_with_it():
    before = [dict(hooks) for hooks in registration_hooks()]
    model = network()
    monitor = GradientMonitor(model, activations=True)
    monitor.__enter__()
    assert any(module._forward_hooks for module in model.modules())
    assert [dict(hooks) for hooks in registration_hooks()] != before
    del monitor
    gc.collect()
    assert not any(module._forward_hooks for module in model.modules())
    assert [dict(hooks) for hooks in registration_hooks()] == before


def registration_hooks():
    from torch.nn.modules import module

    return (
        module._global_parameter_registration_hooks,
        module._global_module_registration_hooks,
    )
