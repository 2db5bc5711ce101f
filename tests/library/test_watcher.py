"""The watcher: norms before clipping, whoever owns the loop, and no trace of it."""

import copy
import gc
import io
import json
import math
import pickle
import subprocess
import sys
import weakref

import pytest
import torch
from networks import relu_network as network
from torch import nn
from torch.nn import functional as F
from torch.optim import LBFGS, SGD, AdamW
from torch.utils.checkpoint import checkpoint

import gradlib
from gradlib import watch
from gradlib.history import History
from gradlib.measure import gradient_norms, parameter_norms, snapshot, update_ratios
from gradlib.watcher import KEPT_ROWS, WAITING_ROWS

CLIPPED = 1e-3


def batch(seed, size=6):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 6, generator=draw)
    return x, x[:, :3].argmax(dim=1)


def loss_of(model, seed=0, size=6):
    x, y = batch(seed, size)
    return F.cross_entropy(model(x), y)


def step(model, optimizer, seed=0, accumulate=1):
    """A step that clips; gives the norms before it did."""
    optimizer.zero_grad()
    for k in range(accumulate):
        (loss_of(model, 10 * seed + k) / accumulate).backward()
    norms = gradient_norms(model)
    nn.utils.clip_grad_norm_(model.parameters(), CLIPPED)
    optimizer.step()
    return norms


def recorded(watcher, quantity="gradient_norm"):
    return watcher.history.layers(quantity)


def check_norms(watcher, expected):
    """Rows hold these norms of layers, and the joint one."""
    names = list(expected[0])
    assert recorded(watcher) == {
        name: pytest.approx([norms[name] for norms in expected], rel=1e-5)
        for name in names
    }
    totals = [math.hypot(*norms.values()) for norms in expected]
    assert watcher.history["gradient_norm"] == pytest.approx(totals, rel=1e-5)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_norms_are_those_of_the_whole_step_before_clipping(accumulate):
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as watcher:
        expected = [step(model, optimizer, k, accumulate) for k in range(4)]
    check_norms(watcher, expected)
    assert min(watcher.history["gradient_norm"]) > 10 * CLIPPED
    assert watcher.history["learning_rate"] == [0.1] * 4


def test_it_changes_nothing():
    models = [network(), network()]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [AdamW(m.parameters(), lr=0.01) for m in models]
    watcher = watch(models[1], optimizers[1], updates_every=2)
    for model, optimizer in zip(models, optimizers, strict=True):
        for k in range(5):
            step(model, optimizer, k)
    watcher.close()
    for p, q in zip(*(m.parameters() for m in models), strict=True):
        assert torch.equal(p, q)
        assert torch.equal(p.grad, q.grad)


def test_every_so_many_steps():
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=2, updates_every=4) as watcher:
        expected, ratios, sizes = [], [], []
        for k in range(6):
            before = snapshot(model)
            size = parameter_norms(model)
            norms = step(model, optimizer, k)
            if k % 2 == 0:
                expected.append(norms)
            if k % 4 == 0:
                sizes.append(size)
                ratios.append(update_ratios(model, before))
    check_norms(watcher, expected)
    assert watcher.history["step"] == [0, 2, 4]
    for quantity, values in (("update_ratio", ratios), ("parameter_norm", sizes)):
        found = recorded(watcher, quantity)
        for name in values[0]:
            assert found[name] == pytest.approx([v[name] for v in values], rel=1e-5)


def test_numbers_of_the_loop_go_into_its_row():
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as watcher:
        for k in range(3):
            watcher.log(loss=torch.tensor(float(k)))
            step(model, optimizer, k)
            watcher.log_last(accuracy=0.5)
    assert watcher.history["loss"] == [0.0, 1.0, 2.0]
    assert watcher.history["accuracy"] == [0.5] * 3


def test_a_loss_that_comes_after_its_row_was_read_joins_it(tmp_path):
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    path = tmp_path / "run.jsonl"
    with watch(model, optimizer, file=path) as watcher:
        for k in range(2):
            step(model, optimizer, k)
            assert len(watcher.history) == k + 1
            watcher.log_last(loss=2.5 - k)
    for history in (watcher.history, History.read(path)):
        assert history["step"] == [0, 1]
        assert history["loss"] == [2.5, 1.5]
        assert not any(map(math.isnan, history["gradient_norm"]))


@pytest.mark.parametrize(
    "steps", [WAITING_ROWS - 1, WAITING_ROWS, 2 * WAITING_ROWS + 3]
)
def test_rows_that_wait_lose_nothing(steps):
    layer = nn.Linear(1, 1, bias=False)
    optimizer = SGD(layer.parameters(), lr=0.0)
    numbers = [float(k + 1) for k in range(steps)]
    with watch(layer, optimizer) as watcher:
        for number in numbers:
            layer.weight.grad = torch.tensor([[number]])
            watcher.log(loss=torch.tensor(number))
            optimizer.step()
            watcher.log_last(accuracy=-number)
        history = watcher.history
    assert history["step"] == list(range(steps))
    assert history["gradient_norm"] == history["loss"] == numbers
    assert history["accuracy"] == [-number for number in numbers]


def test_numbers_are_those_of_their_step():
    layer = nn.Linear(1, 1, bias=False)
    rate, loss = torch.tensor(0.5), torch.tensor(2.0)
    optimizer = SGD(layer.parameters(), lr=rate)
    with watch(layer, optimizer) as watcher:
        for _ in range(3):
            layer.weight.grad = torch.ones(1, 1)
            watcher.log(loss=loss)
            optimizer.step()
            rate /= 2
            loss -= 1
    assert watcher.history["learning_rate"] == [0.5, 0.25, 0.125]
    assert watcher.history["loss"] == [2.0, 1.0, 0.0]


def test_two_optimizers_make_one_row():
    model = nn.ModuleDict({"a": nn.Linear(6, 3), "b": nn.Linear(6, 3)})
    a, b = (SGD(model[name].parameters(), lr=0.1) for name in "ab")
    expected = []
    with watch(model, [a, b]) as watcher:
        for k in range(3):
            norms = {}
            for name, optimizer in (("a", a), ("b", b)):
                # the loss of one also reaches the other, which must not count
                x, y = batch(k)
                model.zero_grad()
                out = model[name](x) + (0.0 if name == "a" else 1.0) * model["a"](x)
                F.cross_entropy(out, y).backward()
                own = gradient_norms(model[name])
                norms |= {f"{name}.{n}": value for n, value in own.items()}
                optimizer.step()
            expected.append(norms)
    check_norms(watcher, expected)
    assert watcher.step == 3


def test_an_optimizer_that_steps_more_often_ends_rows_of_its_own():
    model = nn.ModuleDict({"a": nn.Linear(6, 3), "b": nn.Linear(6, 3)})
    a, b = (SGD(model[name].parameters(), lr=0.1) for name in "ab")
    with watch(model, {"critic": a, "actor": b}.values()) as watcher:
        for optimizer, name in ((a, "a"), (a, "a"), (b, "b"), (a, "a"), (b, "b")):
            loss_of(model[name]).backward()
            optimizer.step()
    assert watcher.history["step"] == [0, 1, 2]
    assert watcher.history.recorded("gradient_norm/b.weight")[0] == [1, 2]


def test_an_optimizer_inside_the_backward_pass():
    model = network()
    optimizers = {p: SGD([p], lr=0.1) for p in model.parameters()}
    reference = copy.deepcopy(model)
    expected = []
    with watch(model, optimizers.values()) as watcher:

        def apply(p):
            optimizers[p].step()
            p.grad = None

        for p in model.parameters():
            p.register_post_accumulate_grad_hook(apply)
        for k in range(3):
            reference.load_state_dict(model.state_dict())
            reference.zero_grad()
            loss_of(reference, k).backward()
            expected.append(gradient_norms(reference))
            loss_of(model, k).backward()
    assert watcher.history["step"] == [0, 1, 2]
    for k, norms in enumerate(expected):
        total = math.hypot(*norms.values())
        assert watcher.history["gradient_norm"][k] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("compile_first", [True, False])
def test_a_compiled_model(compile_first):
    torch._dynamo.reset()
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    compiled = torch.compile(model, backend="aot_eager") if compile_first else model
    with watch(compiled, optimizer) as watcher:
        if not compile_first:
            compiled = torch.compile(model, backend="aot_eager")
        expected = []
        for k in range(3):
            optimizer.zero_grad()
            loss_of(compiled, k).backward()
            expected.append(gradient_norms(model))
            nn.utils.clip_grad_norm_(model.parameters(), CLIPPED)
            optimizer.step()
    check_norms(watcher, expected)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoints(use_reentrant):
    class Saving(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.inner = nn.Linear(6, 8), nn.Linear(8, 8)
            self.last = nn.Linear(8, 3)

        def forward(self, x):
            x = self.first(x)
            x = checkpoint(self.inner, x, use_reentrant=use_reentrant)
            return self.last(x)

    model = Saving()
    optimizer = SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as watcher:
        expected = [step(model, optimizer, k) for k in range(3)]
    check_norms(watcher, expected)


def test_tied_weights_have_one_column():
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    optimizer = SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as watcher:
        expected = [step(model, optimizer, k) for k in range(2)]
    check_norms(watcher, expected)
    assert set(expected[0]) == {"0.weight", "0.bias", "2.bias"}


def test_parameters_that_come_later_get_their_column_then():
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    model[0].requires_grad_(False)
    optimizer = SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as watcher:
        step(model, optimizer)
        model[0].requires_grad_(True)
        norms = step(model, optimizer)
        extra = nn.Parameter(torch.ones(3))
        optimizer.add_param_group({"params": [extra]})
        optimizer.zero_grad()
        (loss_of(model) + extra.sum()).backward()
        optimizer.step()
    history = watcher.history
    assert history.recorded("gradient_norm/0.weight")[0] == [1, 2]
    assert history["gradient_norm"][1] == pytest.approx(math.hypot(*norms.values()))
    assert history["gradient_norm/parameter_4"][-1] == pytest.approx(math.sqrt(3))


def test_a_backward_pass_that_raises_is_forgotten():
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)

    class Raises(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            raise RuntimeError("no gradient")

    with watch(model, optimizer) as watcher:
        x, y = batch(0)
        hidden = Raises.apply(model[0](x))
        with pytest.raises(RuntimeError, match="no gradient"):
            (hidden.sum() + loss_of(model)).backward()
        expected = [step(model, optimizer, 1)]
    check_norms(watcher, expected)


def test_a_step_with_a_closure_that_clips():
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    expected = []

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, len(expected))
        loss.backward()
        expected.append(gradient_norms(model))
        nn.utils.clip_grad_norm_(model.parameters(), CLIPPED)
        return loss

    with watch(model, optimizer) as watcher:
        for _ in range(3):
            optimizer.step(closure)
    check_norms(watcher, expected)


def test_lbfgs_has_one_row_a_step():
    model = network()
    optimizer = LBFGS(model.parameters(), lr=0.1, max_iter=4)
    firsts = []

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        calls.append(gradient_norms(model))
        return loss

    with watch(model, optimizer) as watcher:
        for _ in range(2):
            calls = []
            optimizer.step(closure)
            firsts.append(calls[0])
    check_norms(watcher, firsts)


def test_gradients_without_a_backward_pass():
    model = nn.Linear(3, 1)
    optimizer = SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as watcher:
        model.weight.grad = torch.tensor([[3.0, 0.0, 4.0]])
        optimizer.step()
    assert watcher.history["gradient_norm"] == [5.0]


def test_a_scaler_shows_its_scale_and_the_step_that_it_skips():
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    expected = []
    with watch(model, optimizer, scaler=scaler) as watcher:
        for k in range(4):
            optimizer.zero_grad()
            loss = loss_of(model, k)
            scaler.scale(loss * (math.inf if k == 1 else 1.0)).backward()
            scaler.unscale_(optimizer)
            expected.append(gradient_norms(model))
            nn.utils.clip_grad_norm_(model.parameters(), CLIPPED)
            scaler.step(optimizer)
            scaler.update()
    history = watcher.history
    assert history["step"] == [0, 1, 2, 3]
    assert history["loss_scale"] == [1024, 1024, 512, 512]
    assert history.recorded("skipped") == ([1], [1.0])
    assert not math.isfinite(history["gradient_norm"][1])
    for k in (0, 2, 3):
        total = math.hypot(*expected[k].values())
        assert history["gradient_norm"][k] == pytest.approx(total, rel=1e-5)


def test_the_last_step_may_be_skipped_too():
    model = nn.Linear(3, 1)
    optimizer = SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    watcher = watch(model, optimizer, scaler=scaler)
    scaler.scale(model(torch.ones(1, 3)).sum() * math.inf).backward()
    scaler.step(optimizer)
    scaler.update()
    watcher.close()
    assert watcher.history["skipped"] == [1.0]


def test_steps_that_are_skipped_between_rows_are_counted():
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    broken = {1, 2, 3, 7}
    with watch(model, optimizer, every=3, scaler=scaler) as watcher:
        for k in range(11):
            for part in range(2):  # micro-batches
                loss = loss_of(model, k)
                bad = k in broken and part == 1
                scaler.scale(loss * (math.inf if bad else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        assert watcher.step == 11
    history = watcher.history
    assert history["step"] == [0, 3, 6, 9]
    assert history.recorded("skipped") == ([3, 9], [3.0, 1.0])
    assert history["loss_scale"] == [1024, 256, 128, 64]


def test_norms_that_do_not_fit_float32():
    model = nn.Linear(2, 1, bias=False)
    optimizer = SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as watcher:
        for size in (1e30, 1e-30):
            optimizer.zero_grad()
            model(torch.tensor([[3.0, 4.0]]) * size).sum().backward()
            optimizer.step()
    assert watcher.history["gradient_norm"] == pytest.approx([5e30, 5e-30], rel=1e-5)


def test_a_sparse_embedding():
    model = nn.Sequential(nn.Embedding(5, 2, sparse=True), nn.Linear(2, 1))
    optimizer = SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, updates_every=1) as watcher:
        model(torch.tensor([3, 3])).sum().backward()
        norms = gradient_norms(model)
        optimizer.step()
    check_norms(watcher, [norms])


def test_a_closed_watcher_leaves_nothing_behind():
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as watcher:
        step(model, optimizer)
    assert not watcher.is_open
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    step(model, optimizer)
    assert len(watcher.history) == 1


def test_a_watcher_goes_with_its_model():
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    watcher = weakref.ref(watch(model, optimizer))
    step(model, optimizer)
    gc.collect()
    assert watcher() is not None
    del model, optimizer
    gc.collect()
    assert watcher() is None


def test_a_watched_model_can_be_copied_and_saved():
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as watcher:
        step(model, optimizer)
        torch.save(model, io.BytesIO())
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            loss_of(other).backward()
        step(model, optimizer)
    assert watcher.history["step"] == [0, 1]


def test_two_watchers_on_one_model():
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as one, watch(model, optimizer, every=2) as two:
        expected = [step(model, optimizer, k) for k in range(3)]
    check_norms(one, expected)
    check_norms(two, expected[::2])


class TestFile:
    def run(self, path, steps, **options):
        model = network()
        optimizer = SGD(model.parameters(), lr=0.1)
        with watch(model, optimizer, file=path, **options) as watcher:
            for k in range(steps):
                step(model, optimizer, k)
        return watcher

    def test_it_holds_the_rows(self, tmp_path):
        path = tmp_path / "new" / "run.jsonl"
        history = self.run(path, 3).history
        found = History.read(path)
        assert found["step"] == [0, 1, 2]
        for column in history.columns:
            assert found[column] == pytest.approx(history[column], rel=1e-6)

    def test_a_second_run_appends(self, tmp_path):
        path = tmp_path / "run.jsonl"
        self.run(path, 3)
        with path.open("a") as file:
            file.write('{"step": 3, "gradient_no')  # killed in the middle of a row
        self.run(path, 2)
        assert History.read(path)["step"] == [0, 1, 2, 3, 4]

    def test_a_run_that_goes_back(self, tmp_path):
        path = tmp_path / "run.jsonl"
        self.run(path, 3)
        assert self.run(path, 2, first_step=1).history["step"] == [1, 2]
        assert [event.kind for event in gradlib.read_log(path).events] == ["restarted"]

    def test_a_killed_run_leaves_its_rows(self, tmp_path):
        path = tmp_path / "run.jsonl"
        program = f"""
import os, signal, torch
from gradlib import watch
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
watcher = watch(model, optimizer, file={str(path)!r}, flush_seconds=0)
for k in range(200):
    optimizer.zero_grad()
    loss = model(torch.ones(4, 3)).square().mean()
    loss.backward()
    watcher.log(loss=loss)
    optimizer.step()
    if k == 100:
        os.kill(os.getpid(), signal.SIGKILL)
"""
        done = subprocess.run([sys.executable, "-c", program], check=False)
        assert done.returncode == -9
        told = subprocess.run(
            [sys.executable, "-m", "gradlib", "log", str(path), "--json"],
            capture_output=True, check=False, text=True,
        )  # fmt: skip
        assert told.returncode in (0, 1, 2), told.stderr
        assert json.loads(told.stdout)
        assert History.read(path)["step"] == list(range(100))

    def test_a_program_that_ends_writes_its_last_rows(self, tmp_path):
        path = tmp_path / "run.jsonl"
        program = f"""
import torch
from gradlib import watch
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
watch(model, optimizer, file={str(path)!r})
for k in range(3):
    model(torch.ones(4, 3)).square().mean().backward()
    optimizer.step()
"""
        subprocess.run([sys.executable, "-c", program], check=True)
        assert History.read(path)["step"] == [0, 1, 2]

    def test_a_disk_that_refuses_does_not_end_the_training(self, tmp_path):
        path = tmp_path / "run.jsonl"
        model = network()
        optimizer = SGD(model.parameters(), lr=0.1)
        watcher = watch(model, optimizer, file=path, flush_seconds=0)
        path.mkdir()
        step(model, optimizer)
        with pytest.warns(UserWarning, match="expected to append rows, got"):
            step(model, optimizer)
        step(model, optimizer)
        watcher.close()
        assert len(watcher.history) == 3

    def test_memory_is_bounded(self, tmp_path):
        model = nn.Linear(2, 1, bias=False)
        optimizer = SGD(model.parameters(), lr=0.0)
        path = tmp_path / "run.jsonl"
        steps = 3 * KEPT_ROWS
        with watch(model, optimizer, file=path) as watcher:
            for _ in range(steps):
                model.weight.grad = torch.ones(1, 2)
                optimizer.step()
        assert KEPT_ROWS <= len(watcher.history) < 2 * KEPT_ROWS
        assert watcher.history["step"][-1] == steps - 1
        assert len(History.read(path)) == steps

    def test_few_rows_wait_for_the_disk(self, tmp_path):
        model = nn.Linear(2, 1, bias=False)
        optimizer = SGD(model.parameters(), lr=0.0)
        path = tmp_path / "run.jsonl"
        row = {f"column/{k}": k / 7 for k in range(400)}
        with watch(model, optimizer, file=path, flush_seconds=1e6) as watcher:
            for _ in range(300):
                model.weight.grad = torch.ones(1, 2)
                watcher.log(**row)
                optimizer.step()
            size = path.stat().st_size
            assert size > 1e6
            assert size / len(History.read(path)) * 300 - size < 1.1e6


def test_a_wrapped_optimizer():
    model = network()
    inner = SGD(model.parameters(), lr=0.1)

    class Wrapped:
        optimizer = inner

        def step(self):
            self.optimizer.step()

    with watch(model, Wrapped()) as watcher:
        expected = [step(model, inner)]
    check_norms(watcher, expected)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m, o: watch(nn.ReLU, o), TypeError, "Write ReLU"),
        (lambda m, o: watch(m, m), TypeError, "optimizer: expected"),
        (lambda m, o: watch(m, []), ValueError, "expected at least one"),
        (lambda m, o: watch(network(), o), ValueError, "got none of them"),
        (lambda m, o: watch(m, o, every=0), ValueError, "every"),
        (lambda m, o: watch(m, o, every=2, updates_every=3), ValueError, "multiple"),
        (lambda m, o: watch(m, o, flush_seconds=-1), ValueError, "flush_seconds"),
        (lambda m, o: watch(m, o, first_step=-1), ValueError, "first_step"),
        (lambda m, o: watch(m, o).log(loss="2"), TypeError, "loss: expected a number"),
        (lambda m, o: watch(m, o).log(loss=torch.ones(2)), ValueError, "one number"),
        (
            lambda m, o: watch(m, o).log_last(loss=1),
            RuntimeError,
            "step that has ended",
        ),
    ],
)
def test_it_says_what_is_wrong(make, error, message):
    model = network()
    with pytest.raises(error, match=message):
        make(model, SGD(model.parameters(), lr=0.1))
