"""The guard tells spikes from noise, and rolls back bit for bit."""

import io
import math
from collections import Counter

import numpy as np
import pytest
import torch
from ranks import run_two
from torch import nn
from torch.nn import functional as F

from gradlib.errors import DivergenceError
from gradlib.guard import DECISIONS, SpikeGuard, agree, deviation
from gradlib.training_state import TrainingState

EVERY = 10


def network(seed=0):
    torch.manual_seed(seed)
    layers = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2)
    return nn.Sequential(*layers, nn.Linear(8, 3))


def batch(step):
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(step))
    return x, x[:, :3].argmax(dim=1)


class Run:
    """A training under guard."""

    def __init__(self, **settings):
        self.model = network()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 7, gamma=0.9)
        settings = dict(least=5, every=EVERY) | settings
        self.guard = SpikeGuard(
            self.model, self.optimizer, scheduler=self.scheduler, **settings
        )

    def step(self, number, factor=1.0):
        x, y = batch(number)
        self.optimizer.zero_grad()
        loss = factor * F.cross_entropy(self.model(x), y)
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in self.model.parameters()])
        decision = self.guard.judge(loss, norm)
        if decision == "go":
            self.optimizer.step()
            self.scheduler.step()
        return decision

    def train(self, steps):
        return [self.step(number) for number in steps]

    def state(self):
        return TrainingState(self.model, self.optimizer, self.scheduler).copy()


def assert_same(a, b):
    for name, value in a["model"].items():
        assert torch.equal(value, b["model"][name])
    for one, other in zip(a["optimizer"], b["optimizer"], strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert a["groups"] == b["groups"]
    assert a["scheduler"] == b["scheduler"]


def test_after_a_rollback_training_goes_on_from_the_good_state_bit_for_bit():
    run = Run(rollbacks=9)
    assert set(run.train(range(3 * EVERY))) == {"go"}
    good = run.guard._states[-1]
    run.train(range(100, 104))
    spoiled = [run.step(200 + k, math.nan) for k in range(3)]
    assert spoiled == ["skip", "skip", "rollback"]
    assert_same(run.state(), good)
    assert all(p.grad is None for p in run.model.parameters())
    drawn = torch.get_rng_state()
    run.train(range(300, 320))
    after = run.state()

    other = Run()
    TrainingState(other.model, other.optimizer, other.scheduler).restore(good)
    torch.set_rng_state(drawn)
    other.train(range(300, 320))
    assert_same(after, other.state())


def test_batches_that_torch_draws_do_not_come_again_after_a_rollback():
    run = Run()
    drawn, judged = [], []
    for step in range(4 * EVERY):
        drawn.append(int(torch.randint(2**31, ())))
        bad = 3 * EVERY <= step < 3 * EVERY + 3
        judged.append(run.step(drawn[-1], math.nan if bad else 1.0))
    assert judged.count("rollback") == 1
    assert len(set(drawn)) == len(drawn)


def test_a_state_is_that_before_the_step_that_was_judged():
    run = Run()
    run.train(range(EVERY - 1))
    before = run.state()
    run.train([EVERY - 1])
    kept = run.guard._states[-1]
    assert torch.equal(kept["model"]["4.weight"], before["model"]["4.weight"])
    assert kept["scheduler"] == before["scheduler"]


def test_one_bad_batch_is_skipped_and_leaves_no_trace_in_weights_or_window():
    run = Run()
    run.train(range(12))
    weight, past = run.model[0].weight.clone(), dict(run.guard._past)
    assert run.step(50, 1e4) == "skip"
    assert "deviations above its median" in run.guard.reason
    assert torch.equal(run.model[0].weight, weight)
    assert run.guard._past == past
    assert run.train([51]) == ["go"]
    assert run.guard.reason == ""
    assert run.guard.counts == {"go": 13, "skip": 1}


def test_a_level_that_has_risen_for_good_becomes_usual():
    run = Run(patience=3)
    judged = [run.guard.judge(1.0) for _ in range(20)]
    judged += [run.guard.judge(50.0) for _ in range(20)]
    assert Counter(judged) == {"go": 37, "skip": 2, "rollback": 1}
    assert judged[-17:] == ["go"] * 17


def test_a_second_rollback_goes_one_state_further_back_and_then_it_ends():
    run = Run(keep=2, rollbacks=3)
    run.train(range(2 * EVERY + 1))
    older, newer = run.guard._states
    nan = [math.nan] * 3
    assert list(map(run.guard.judge, nan))[-1] == "rollback"
    assert_same(run.state(), newer)
    assert list(map(run.guard.judge, nan))[-1] == "rollback"
    assert_same(run.state(), older)
    assert list(map(run.guard.judge, nan))[-1] == "rollback"
    with pytest.raises(DivergenceError, match="3 rollbacks did not help; loss is nan"):
        list(map(run.guard.judge, nan))


def test_each_quantity_is_judged():
    for name in ("loss", "norm", "update_rms"):
        guard = Run().guard
        usual = {"loss": 1.0, "norm": 1.0, "update_rms": 1.0}
        for _ in range(5):
            assert guard.judge(**usual) == "go"
        assert guard.judge(**usual | {name: torch.tensor(100.0)}) == "skip"
        assert guard.reason.startswith(name)


def test_losses_below_zero_are_judged_as_they_are():
    guard = Run().guard
    drawn = torch.Generator().manual_seed(0)
    for value in torch.randn(40, generator=drawn) - 3:
        assert guard.judge(value) == "go"
    assert guard.judge(30.0) == "skip"


def test_nothing_is_judged_before_enough_is_known_but_nan():
    guard = Run(least=5).guard
    judged = [guard.judge(loss) for loss in (1.0, 1e6, math.inf, 1.0)]
    assert judged == ["go", "go", "skip", "go"]


def test_a_scaler_skips_its_overflows_itself():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    guard = SpikeGuard(model, optimizer, scaler=scaler, least=5)

    def step(number, factor=1.0):
        x, y = batch(number)
        optimizer.zero_grad()
        scaler.scale(factor * F.cross_entropy(model(x), y)).backward()
        scaler.unscale_(optimizer)
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters()])
        decision = guard.judge(1.0, norm)
        if decision == "go":
            scaler.step(optimizer)
            scaler.update()
        return decision

    judged = [step(k, 10.0) for k in range(12)]
    assert set(judged) == {"go"}
    assert scaler.get_scale() < 2.0**127
    scaler.update(1024.0)
    assert step(50, 1e6) == "skip"
    assert scaler.get_scale() == 1024.0
    assert step(51, 10.0) == "go"  # unscale_ may be called again
    scaler.update(0.5)
    assert step(52, math.nan) == "skip"


NOISE = {
    "normal": lambda d, n: 1 + 0.1 * d.standard_normal(n),
    "lognormal": lambda d, n: np.exp(0.3 * d.standard_normal(n)),
    "wide lognormal": lambda d, n: np.exp(d.standard_normal(n)),
    "exponential": lambda d, n: d.exponential(size=n),
    "square of a normal": lambda d, n: d.standard_normal(n) ** 2,
    "Student, 3 degrees": lambda d, n: np.abs(d.standard_t(3, n)),
    "drifting": lambda d, n: np.exp(0.3 * autoregressive(d, n)),
    "falling": lambda d, n: 3 * np.exp(-np.arange(n) / 800) * (1 + 0.1 * d.random(n)),
}


def autoregressive(draw, n, kept=0.95):
    values = np.zeros(n)
    for k in range(1, n):
        values[k] = kept * values[k - 1]
        values[k] += math.sqrt(1 - kept**2) * draw.standard_normal()
    return values


@pytest.mark.parametrize("kind", NOISE)
def test_healthy_noise_seldom_skips_and_never_rolls_back(kind):
    counts = Counter()
    for seed in range(3):
        guard = Run(least=20).guard
        for value in NOISE[kind](np.random.default_rng(seed), 1500):
            guard.judge(float(value))
        counts += guard.counts
    assert counts["rollback"] == 0
    assert counts["skip"] <= 2


def test_a_rise_by_the_threshold_is_the_border():
    past = np.exp(0.1 * np.random.default_rng(0).standard_normal(100)).tolist()
    for size, decision in ((0.99, "go"), (1.01, "skip")):
        guard = Run(least=20, threshold=4.0).guard
        for value in past:
            assert guard.judge(value) == "go"
        logs = np.log(past)
        spread = 1.4826 * np.median(np.abs(logs - np.median(logs))) + 0.05
        border = np.median(logs) + 4 * size * spread
        assert guard.judge(float(np.exp(border))) == decision
    assert deviation(0.0, [0.0, 0.0]) == 0.0


def test_memory_is_said():
    guard = Run(keep=3).guard
    assert (
        guard.nbytes == 3 * TrainingState(network(), guard._training.optimizer).nbytes()
    )


def test_a_resumed_guard_knows_its_window():
    run = Run()
    run.train(range(12))
    state = run.guard.state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    resumed = Run().guard
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.judge(1e6) == "skip"
    assert (resumed.step, resumed.counts["go"]) == (13, 12)
    with pytest.raises(KeyError):
        resumed.load_state_dict({})


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"least": 101}, "least: expected at most window=100"),
        ({"threshold": 0}, "threshold: expected a finite number > 0"),
        ({"patience": 0}, "patience"),
        ({"every": 0}, "every"),
        ({"keep": 0}, "keep"),
    ],
)
def test_wrong_settings_are_named(settings, match):
    with pytest.raises(ValueError, match=match):
        Run(**settings)


def test_wrong_values_are_named():
    guard = Run().guard
    with pytest.raises(
        ValueError, match=r"loss: expected one number, got shape \(2,\)"
    ):
        guard.judge(torch.ones(2))
    with pytest.raises(TypeError, match="norm: expected a number, got str"):
        guard.judge(1.0, "1")
    with pytest.raises(ValueError, match="flag: expected one of go, skip, rollback"):
        agree("stop")


PROGRAM = """
import math
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from gradlib import SpikeGuard, agree

def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))

def whole(model):
    return [p.full_tensor() if hasattr(p, "placements") else p
            for p in map(torch.detach, model.parameters())]

def train(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    guard = SpikeGuard(model, optimizer, least=5, every=10)
    decisions = []
    def steps(numbers, broken=()):
        for k in numbers:
            x = torch.randn(8, 6, generator=torch.Generator().manual_seed(2 * k + RANK))
            if k in broken and RANK == 1:
                x = x * math.nan
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), x[:, :3].argmax(dim=1))
            loss.backward()
            told = guard.judge(loss.nan_to_num(1e9) if RANK == 1 else 1.0)
            decisions.append(told)
            if told == "go":
                optimizer.step()
    steps(range(9))
    good = [t.clone() for t in whole(model)]
    steps(range(9, 17))
    moved = not torch.equal(good[0], whole(model)[0])
    steps(range(17, 20), broken=range(17, 20))
    back = all(map(torch.equal, good, whole(model)))
    steps(range(20, 25))
    return {"decisions": decisions, "moved": moved, "back": back,
            "after": [t.sum().item() for t in whole(model)], "reason": guard.reason}

answer({
    "DDP": train(DistributedDataParallel(network())),
    "FSDP2": train(fully_shard(network())),
    "agreed": [agree("skip" if RANK else "go"), agree("rollback" if RANK else "skip"),
               agree(RANK == 1), agree(False), agree("go")],
})
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return run_two(PROGRAM, tmp_path_factory.mktemp("guard"))


@pytest.mark.parametrize("kind", ["DDP", "FSDP2"])
def test_all_processes_decide_and_roll_back_together(kind, answers):
    first, second = (answer[kind] for answer in answers)
    expected = ["go"] * 17 + ["skip", "skip", "rollback"] + ["go"] * 5
    assert first["decisions"] == second["decisions"] == expected
    assert first["moved"]
    assert first["back"]
    assert second["back"]
    assert first["after"] == second["after"]


def test_the_strongest_decision_wins(answers):
    expected = ["skip", "rollback", True, False, "go"]
    assert [answer["agreed"] for answer in answers] == [expected, expected]
    assert [agree(decision) for decision in DECISIONS] == list(DECISIONS)
