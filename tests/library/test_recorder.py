"""What a dead run leaves behind runs again, bit for bit, to the death."""

import copy
import dataclasses
import io
import math
import pickle
import random
import resource
import signal
import subprocess
import sys
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradlib import FlightRecorder, clip_norm_, replay
from gradlib.errors import NonFiniteGradientError
from gradlib.measure import NonFinite
from gradlib.plain_values import plain, restored
from gradlib.training_state import TrainingState

DEATH = 137


class Net(nn.Module):
    """A net that draws from torch while it trains, and has buffers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3)
        self.net = nn.Sequential(*layers, nn.Linear(16, 3))

    def forward(self, x):
        return self.net(x)


class WithLoss(Net):
    """The same, with the loss inside, as models of transformers have it."""

    def forward(self, x, y):
        return {"loss": F.cross_entropy(self.net(x), y)}


def batch(step, death=DEATH):
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
    y = x[:, :3].argmax(dim=1)
    if step == death:
        x[3, 2] = math.nan
    return x, y


def noisy_loss(model, pair):
    """A loss that draws from all three sources of random numbers."""
    x, y = pair
    x = x + 0.1 * torch.randn(x.shape) + 0.1 * random.random()
    return F.cross_entropy(model(x * (1 + 0.1 * np.random.rand())), y)  # noqa: NPY002


def weights(model):
    return copy.deepcopy(model.state_dict())


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def dies():
    return pytest.warns(UserWarning, match=f"step {DEATH}: .* gradlib.replay runs them")


OPTIMIZERS = {
    "SGD": lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9),
    "AdamW": lambda ps: torch.optim.AdamW(ps, lr=0.01),
    "fused Adam": lambda ps: torch.optim.Adam(ps, lr=0.01, fused=True),
}


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_plain_loop_replays_bit_for_bit(kind, in_memory, tmp_path):
    path = tmp_path / "box" / "black_box.pt"
    model = Net()
    optimizer = OPTIMIZERS[kind](model.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma=0.98)
    recorder = FlightRecorder(
        model, optimizer, path=path, clip=0.5, scheduler=schedule, in_memory=in_memory
    )
    norms = []
    with dies():
        for step, pair in enumerate(map(recorder.batch, map(batch, range(DEATH + 3)))):
            optimizer.zero_grad()
            if step == DEATH:
                fatal = weights(model)
            noisy_loss(model, pair).backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            norms.append(norm.item())
            optimizer.step()
            schedule.step()
            torch.rand(step % 3)  # the loop draws too, for other things
            random.random()
    assert not recorder.is_open
    assert recorder.reason.startswith("gradient of net.0.weight is nan")
    assert [p.name for p in path.parent.iterdir()] == ["black_box.pt"]

    other = Net()
    nn.init.zeros_(other.net[0].weight)
    drawn = torch.get_rng_state(), random.getstate()
    found = replay(path, other, loss=noisy_loss)
    assert found.differs_at is None
    assert (found.step, len(found.losses)) == (DEATH, DEATH - 100 + 1)
    assert found.born == NonFinite("Net", "input", "nan")
    assert found.norms[:-1] == pytest.approx(norms[100:DEATH], rel=1e-6)
    assert found.report.cause == "bad_data"
    assert_same(weights(other), fatal)
    assert torch.equal(found.batch[0].isnan(), batch(DEATH)[0].isnan())
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert random.getstate() == drawn[1]
    assert f"Steps 100 to {DEATH} ran again, bit for bit as recorded." in repr(found)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_without_a_line_in_the_loop(accumulate, tmp_path):
    path = tmp_path / "black_box.pt"
    model = WithLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    FlightRecorder(model, optimizer, path=path, every=10)
    death = 17 * accumulate + accumulate // 2
    fatal = {}

    def train():
        for step in range(20):
            optimizer.zero_grad()
            fatal.update(weights(model) if step == 17 else {})
            for k in range(accumulate):
                x, y = batch(step * accumulate + k, death)
                (model(x, y=y)["loss"] / accumulate).backward()
            optimizer.step()
            with torch.no_grad():
                model.eval()(x, y)  # an evaluation is no batch
                model.train()

    with pytest.warns(UserWarning, match="step 17: loss is nan"):
        train()
    found = replay(path, WithLoss(), seconds=None)
    assert (found.step, found.differs_at, found.report) == (17, None, None)
    assert found.born == NonFinite("WithLoss", "input", "nan")
    again = WithLoss()
    assert replay(path, again, seconds=None).step == 17
    assert_same(weights(again), fatal)


class Caching(WithLoss):
    """Rounds otherwise where it keeps keys and values, as transformers may."""

    def __init__(self, *, use_cache):
        super().__init__()
        self.config = SimpleNamespace(use_cache=use_cache)

    def forward(self, x, y):
        return super().forward(x * 1.1 if self.config.use_cache else x, y)


def test_a_model_keeps_keys_and_values_as_it_did_in_the_training(tmp_path):
    model = Caching(use_cache=False)
    sgd = torch.optim.SGD(model.parameters(), lr=0.05)
    with dies(), FlightRecorder(model, sgd, path=tmp_path / "box.pt"):
        for step in range(DEATH + 1):
            sgd.zero_grad()
            model(*batch(step))["loss"].backward()
            sgd.step()
    other = Caching(use_cache=True)
    found = replay(tmp_path / "box.pt", other, seconds=None)
    assert (found.step, found.differs_at) == (DEATH, None)
    assert other.config.use_cache


def test_a_clipper_that_raises_is_no_obstacle(tmp_path):
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = FlightRecorder(model, optimizer, path=tmp_path / "box.pt")
    x, y = recorder.batch(batch(3, death=3))
    with pytest.warns(UserWarning, match="step 0"):
        F.cross_entropy(model(x), y).backward()
    with pytest.raises(NonFiniteGradientError):
        clip_norm_(model.parameters(), 1.0)
    assert (tmp_path / "box.pt").exists()


def test_an_error_in_the_loop_is_written_too(tmp_path):
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train():
        with FlightRecorder(model, optimizer, path=tmp_path / "box.pt") as recorder:
            for step in range(4):
                x, y = recorder.batch(batch(step))
                if step == 3:
                    raise ArithmeticError("too large")
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()

    with (
        pytest.warns(UserWarning, match="ArithmeticError: too large"),
        pytest.raises(ArithmeticError),
    ):
        train()
    found = replay(
        tmp_path / "box.pt",
        Net(),
        loss=lambda m, b: F.cross_entropy(m(b[0]), b[1]),
        seconds=None,
    )
    assert (found.step, found.born, found.differs_at) == (3, None, None)


def test_a_loss_that_is_told_counts(tmp_path):
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = FlightRecorder(model, optimizer, path=tmp_path / "box.pt")
    recorder.batch(batch(0))
    with pytest.warns(UserWarning, match="loss is inf"):
        recorder.log(math.inf)
    with pytest.raises(ValueError, match="loss: expected one number"):
        recorder.log(torch.ones(2))


def test_a_parameter_that_breaks_in_the_update_is_named(tmp_path):
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = FlightRecorder(model, optimizer, path=tmp_path / "box.pt", every=4)

    def train():
        for step in range(6):
            x, y = recorder.batch(batch(step))
            optimizer.param_groups[0]["lr"] = math.inf if step == 1 else 0.1
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

    with pytest.warns(UserWarning, match="step 2:"):
        train()
    found = replay(
        tmp_path / "box.pt",
        Net(),
        loss=lambda m, b: F.cross_entropy(m(b[0]), b[1]),
        seconds=None,
    )
    assert (found.step, found.differs_at) == (1, None)
    assert found.born[1] == "update"
    assert "print that tensor's gradient and state" in repr(found)


def scaled_training(path, steps):
    """A training under a scaler that overflows at first, and whose weights break."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**128 / 8, growth_interval=5)
    recorder = FlightRecorder(model, optimizer, path=path, scaler=scaler, clip=1.0)
    for step in range(steps):
        x, y = recorder.batch(batch(step))
        optimizer.zero_grad()
        if step == steps - 1:
            optimizer.param_groups[0]["lr"] = math.inf
        scaler.scale(10 * F.cross_entropy(model(x), y)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    return recorder, model


def test_a_scaler_is_replayed_with_the_steps_that_it_skipped(tmp_path):
    path = tmp_path / "box.pt"
    recorder, _ = scaled_training(path, 12)
    assert recorder.is_open
    recorder.write()
    found = replay(
        path,
        Net(),
        loss=lambda m, b: 10 * F.cross_entropy(m(b[0]), b[1]),
        seconds=None,
    )
    assert math.inf in found.norms[:4] or any(map(math.isnan, found.norms[:4]))
    assert found.differs_at is None
    assert (found.step, found.born[1]) == (11, "update")


def test_a_scale_that_falls_at_the_last_step_is_told_when_the_recorder_closes(tmp_path):
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    path = tmp_path / "box.pt"
    recorder = FlightRecorder(model, optimizer, path=path, scaler=scaler)
    x, y = recorder.batch(batch(0, death=0))
    scaler.scale(F.cross_entropy(model(x), y)).backward()
    scaler.step(optimizer)
    scaler.update()
    with pytest.warns(UserWarning, match="loss scale fell to 0.5"):
        recorder.close()
    assert torch.load(path, weights_only=True)["reason"] == recorder.reason


def test_a_scaler_that_is_switched_off_is_none(tmp_path):
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    path = tmp_path / "box.pt"
    recorder = FlightRecorder(model, optimizer, path=path, scaler=scaler)
    x, y = recorder.batch(batch(0, death=0))
    with pytest.warns(UserWarning, match="gradient of net.0.weight is nan"):
        scaler.scale(F.cross_entropy(model(x), y)).backward()
    assert not recorder.is_open
    found = replay(
        path, Net(), loss=lambda m, b: F.cross_entropy(m(b[0]), b[1]), seconds=None
    )
    assert found.born.where == "input"


@dataclasses.dataclass
class Pair:
    x: torch.Tensor
    y: torch.Tensor
    name: str = "pair"


Named = namedtuple("Named", "x y")
FORMS = {
    "tuple": lambda x, y: (x, y),
    "named tuple": Named,
    "dataclass": Pair,
    "object": lambda x, y: SimpleNamespace(x=x, y=y),
    "dictionary": lambda x, y: {"x": x, "y": y, "n": 3, "names": ["a", None]},
    "arrays": lambda x, y: {"x": x.numpy(), "y": y.numpy()},
}


def loss_of_form(model, found):
    if isinstance(found, dict):
        x, y = found["x"], found["y"]
    else:
        x, y = found if isinstance(found, tuple) else (found.x, found.y)
    return F.cross_entropy(model(torch.as_tensor(x)), torch.as_tensor(y))


@pytest.mark.parametrize("form", FORMS)
def test_batches_of_any_form(form, tmp_path):
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = FlightRecorder(model, optimizer, path=tmp_path / "box.pt")

    def train():
        for step in range(3):
            given = FORMS[form](*batch(step, death=2))
            optimizer.zero_grad()
            loss_of_form(model, recorder.batch(given)).backward()
            optimizer.step()

    with pytest.warns(UserWarning, match="step 2"):
        train()
    found = replay(tmp_path / "box.pt", Net(), loss=loss_of_form, seconds=None)
    assert (found.step, found.born[1], found.differs_at) == (2, "input", None)


def test_what_cannot_be_recorded_is_refused(tmp_path):
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    path = tmp_path / "box.pt"
    recorder = FlightRecorder(model, sgd, path=path)
    with pytest.raises(TypeError, match=r"batch\.f: expected tensors, .* got function"):
        recorder.batch({"x": torch.ones(1), "f": lambda x: x})
    with pytest.raises(RuntimeError, match="expected a step to write, got none"):
        recorder.write()
    with pytest.raises(RuntimeError, match="expected a call of the model"):
        sgd.step()
    recorder.close()
    with pytest.raises(ValueError, match="got LBFGS"):
        FlightRecorder(model, torch.optim.LBFGS(model.parameters()), path=path)
    other = torch.optim.SGD([*model.parameters(), nn.Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match="got 1 others of 7"):
        FlightRecorder(model, other, path=path)
    recorder = FlightRecorder(model, sgd, path=path)
    with pytest.raises(ValueError, match="without a closure"):
        sgd.step(lambda: 1.0)
    assert not recorder.is_open


def recorded(path, loss, steps=3):
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with FlightRecorder(model, optimizer, path=path) as recorder:
        for step in range(steps):
            pair = recorder.batch(batch(step))
            optimizer.zero_grad()
            loss(model, pair).backward()
            optimizer.step()
        recorder.write()


@pytest.mark.parametrize("told", [True, False])
def test_a_step_that_the_loop_leaves_out_is_left_out(told, tmp_path):
    path, model = tmp_path / "box.pt", WithLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = FlightRecorder(model, optimizer, path=path)
    for step in range(5):
        x, y = recorder.batch(batch(step)) if told else batch(step)
        model(x, y=y)["loss"].backward()
        if step != 2:
            optimizer.step()
        optimizer.zero_grad()
    recorder.write()
    recorder.close()
    loss = (lambda m, pair: m(*pair)) if told else None
    found = replay(path, WithLoss(), loss=loss, seconds=None)
    assert (found.step, len(found.losses), found.differs_at) == (3, 4, None)


def test_a_replay_of_another_loss_is_told(tmp_path):
    recorded(tmp_path / "box.pt", noisy_loss)

    def twice(model, pair):
        return 2 * noisy_loss(model, pair)

    found = replay(tmp_path / "box.pt", Net(), loss=twice, seconds=None)
    assert found.differs_at == 0
    assert "other than recorded from step 0 on: give loss=" in repr(found)
    assert "All numbers were finite." in repr(found)


def test_wrong_arguments_of_replay_are_named(tmp_path):
    path = tmp_path / "box.pt"
    with pytest.raises(FileNotFoundError, match="expected a record, found no file"):
        replay(path, Net())
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="path: expected a file that a FlightRec"):
        replay(path, Net())
    torch.save({"weight": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="path: expected a file that a FlightRec"):
        replay(path, Net())
    recorded(path, noisy_loss)
    with pytest.raises(TypeError, match=r"loss: expected a function loss\(model, b"):
        replay(path, Net())
    with pytest.raises(TypeError, match=r"loss: expected one number, got \(8, 3\)"):
        replay(path, Net(), loss=lambda m, b: m(b[0]), seconds=None)
    with pytest.raises(ValueError, match="model: expected the model that was rec"):
        replay(path, nn.Linear(2, 2), loss=noisy_loss)
    net = Net()
    backwards = torch.optim.SGD(list(net.parameters())[::-1])
    with pytest.raises(ValueError, match="optimizer: expected the recorded param"):
        replay(path, net, loss=noisy_loss, optimizer=backwards)


class Own(torch.optim.SGD):
    """An optimizer that torch does not know."""


def test_an_optimizer_of_ones_own_is_asked_for(tmp_path):
    path, model = tmp_path / "box.pt", Net()
    optimizer = Own(model.parameters(), lr=0.1)
    with FlightRecorder(model, optimizer, path=path) as recorder:
        noisy_loss(model, recorder.batch(batch(0))).backward()
        optimizer.step()
        recorder.write()
    net = Net()
    with pytest.raises(ValueError, match="Give optimizer=, made from this model"):
        replay(path, net, loss=noisy_loss)
    own = Own(net.parameters(), lr=3.0)
    found = replay(path, net, loss=noisy_loss, optimizer=own, seconds=None)
    assert found.differs_at is None


def test_a_recorded_model_can_be_copied_pickled_and_is_left_without_hooks(tmp_path):
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = FlightRecorder(model, optimizer, path=tmp_path / "box.pt")
    noisy_loss(model, recorder.batch(batch(0))).backward()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        noisy_loss(other, batch(1)).backward()
    assert len(recorder._entries) == 1
    optimizer.step()
    recorder.close()
    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_memory_is_said(tmp_path):
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    recorder = FlightRecorder(model, optimizer, path=tmp_path / "box.pt", every=7)
    assert recorder.nbytes == TrainingState(model, optimizer).nbytes()
    pair = recorder.batch(batch(0))
    noisy_loss(model, pair).backward()
    optimizer.step()
    one = sum(t.nbytes for t in pair)
    batches = recorder.nbytes - TrainingState(model, optimizer).nbytes()
    assert 7 * one <= batches <= 7 * (one + 10_000)  # and the random states
    recorder.close()
    on_disk = FlightRecorder(model, optimizer, path=tmp_path / "x", in_memory=False)
    assert on_disk.nbytes == 0


def test_a_compiled_model_is_recorded_from_outside(tmp_path):
    model = WithLoss()
    compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = FlightRecorder(compiled, optimizer, path=tmp_path / "box.pt")
    for step in range(3):
        optimizer.zero_grad()
        compiled(*batch(step))["loss"].backward()
        optimizer.step()
    recorder.write()
    recorder.close()
    found = replay(tmp_path / "box.pt", WithLoss(), seconds=None)
    assert len(found.losses) == 3
    assert found.norms[0] > 0


def test_plain_values_come_back():
    given = {
        "x": torch.ones(2, requires_grad=True),
        "n": np.float32(0.5),
        3: (None, True, "text", [np.arange(3)]),
        "pair": Named(1, torch.zeros(1)),
        "size": torch.Size([2]),
    }
    file = io.BytesIO()
    torch.save(plain(given), file)
    file.seek(0)
    back = restored(torch.load(file, weights_only=True))
    assert back["x"].requires_grad
    assert back[3][:3] == (None, True, "text")
    assert back[3][3][0].tolist() == [0, 1, 2]
    assert back["pair"].y.tolist() == [0.0]
    assert (back["n"], back["size"]) == (0.5, torch.Size([2]))


DYING = """
import os, signal, sys
import torch
from pathlib import Path
from gradlib.whole_file import save_whole
import gradlib.whole_file as home

path = Path(sys.argv[1])
saved = torch.save
def save_half(content, file):
    saved(content, file)
    file.flush()
    os.ftruncate(file.fileno(), 100)
    os.kill(os.getpid(), signal.SIGKILL)
home.torch.save = save_half
save_whole({"x": torch.ones(1000)}, path)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_kill_during_the_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "box.pt"
    torch.save({"x": 1}, path)
    ended = subprocess.run([sys.executable, "-c", DYING, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert torch.load(path, weights_only=True) == {"x": 1}


def test_a_full_disk_leaves_the_old_file_and_the_training_goes_on(tmp_path):
    path = tmp_path / "box.pt"
    torch.save({"x": 1}, path)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = FlightRecorder(model, optimizer, path=path)
    recorder.batch(batch(0))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handled = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.warns(UserWarning, match=r"box\.pt: expected to write it, got"):
            recorder.log(math.nan)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handled)
    assert torch.load(path, weights_only=True) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["box.pt"]
