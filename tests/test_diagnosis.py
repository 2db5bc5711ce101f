"""diagnose(): rules that speak and stay silent, no traces, clear errors, reports."""

import json
import random
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradlib.diagnosis import CAUSES, RULES, Finding, Report, diagnose
from gradlib.diagnosis.examination import Examination
from gradlib.diagnosis.saved_state import SavedState
from gradlib.diagnosis.training_setup import TrainingSetup

Case = dict[str, Any]


def classes(
    n: int = 40, size: int = 16, features: int = 8
) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(4, features, generator=generator)
    batches = []
    for _ in range(n):
        y = torch.randint(0, 4, (size,), generator=generator)
        noise = 0.5 * torch.randn(size, features, generator=generator)
        batches.append((centres[y] + noise, y))
    return batches


def curve(n: int = 40, size: int = 16) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(n):
        x = torch.randn(size, 4, generator=generator)
        batches.append((x, torch.tanh(x.sum(1, keepdim=True))))
    return batches


def mlp(inside: int, out: int, **changes: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    layers = {
        "fc1": nn.Linear(inside, 32),
        "act1": nn.ReLU(),
        "fc2": nn.Linear(32, 32),
        "act2": nn.ReLU(),
        "fc3": nn.Linear(32, out),
    }
    model = nn.Sequential()
    for name, layer in {**layers, **changes}.items():
        model.add_module(name, layer)
    return model


def case(
    model: nn.Module,
    batches: list[Any],
    *,
    lr: float = 1e-2,
    sgd: bool = False,
    **ways: Any,
) -> Case:
    kind = torch.optim.SGD if sgd else torch.optim.Adam
    if not {"loss", "step", "loss_fn"} & set(ways):
        whole = batches[0][1].is_floating_point()
        ways["loss_fn"] = nn.MSELoss() if whole else F.cross_entropy
    optimizer = ways.pop("optimizer", None) or kind(model.parameters(), lr=lr)
    return dict(model=model, optimizer=optimizer, batches=batches, **ways)


def good() -> Case:
    return case(mlp(8, 4), classes())


def good_regression() -> Case:
    return case(mlp(4, 1), curve())


def nan_input() -> Case:
    batches = classes()
    batches[7][0][1, 2] = float("nan")
    return case(mlp(8, 4), batches)


def nan_weight() -> Case:
    made = good()
    made["model"].fc2.weight.data[0, 0] = float("nan")
    return made


def own_loop(order: str, clip: float | None = None) -> Case:
    made = good()
    model, optimizer = made["model"], made["optimizer"]
    calls: dict[str, Callable[[], Any]] = {
        "z": optimizer.zero_grad,
        "c": lambda: nn.utils.clip_grad_norm_(model.parameters(), clip or 1.0),
        "s": optimizer.step,
    }

    def step(batch: Any) -> Tensor:
        loss = F.cross_entropy(model(batch[0]), batch[1])
        for letter in order:
            loss.backward() if letter == "b" else calls[letter]()
        return loss

    return dict(made, loss_fn=None, step=step, clip=clip)


def left_out() -> Case:
    made = good()
    rest = [p for n, p in made["model"].named_parameters() if "fc3" not in n]
    return dict(made, optimizer=torch.optim.Adam(rest, lr=1e-2))


def backbone_left_out() -> Case:
    made = good()
    head = made["model"].fc3.parameters()
    return dict(made, optimizer=torch.optim.Adam(head, lr=1e-2))


def rounded() -> Case:
    made = good_regression()
    return dict(made, loss_fn=lambda out, y: F.mse_loss(torch.round(out), y))


def argmax_in_the_loss() -> Case:
    def loss_fn(out: Tensor, y: Tensor) -> Tensor:
        wrong = (out.argmax(1) - y).float().pow(2).mean()
        return F.cross_entropy(out, y) + wrong

    return dict(good(), loss_fn=loss_fn)


def argmax_for_a_log() -> Case:
    right: list[float] = []

    def loss_fn(out: Tensor, y: Tensor) -> Tensor:
        right.append(float((out.argmax(1) == y).float().mean()))
        return F.cross_entropy(out, y)

    return dict(good(), loss_fn=loss_fn)


def softmax_inside() -> Case:
    return case(mlp(8, 4, end=nn.Softmax(1)), classes())


def single_samples() -> Case:
    generator = torch.Generator().manual_seed(2)
    batches = []
    for _ in range(40):
        level = torch.randn(1, 1, generator=generator)
        noise = 0.1 * torch.randn(1, 2, 6, generator=generator)
        batches.append((level[:, :, None] + noise, level))
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(2, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 1)
    )
    return case(model, batches)


def one_value() -> Case:
    batches = curve()
    batches[5] = (batches[5][0][:1], batches[5][1][:1])
    return case(mlp(4, 1, act1=nn.BatchNorm1d(32)), batches)


def evaluation_mode() -> Case:
    batches = [(80 * x + 500, y) for x, y in classes()]
    model = nn.Sequential(nn.BatchNorm1d(8), *mlp(8, 4)).eval()
    return case(model, batches, lr=0.1, sgd=True)


def half_precision() -> Case:
    batches = [(x.half(), y) for x, y in classes()]

    def loss_fn(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out.float(), y)

    return case(mlp(8, 4).half(), batches, loss_fn=loss_fn)


def empty_targets() -> Case:
    batches = classes()
    batches[9] = (batches[9][0], torch.full((16,), -100))
    return case(mlp(8, 4), batches)


def naive_cross_entropy(eps: float) -> Case:
    def loss_fn(out: Tensor, y: Tensor) -> Tensor:
        p = torch.sigmoid(out[:, 0])
        right = (y > 1).float()
        return -(right * (p + eps).log() + (1 - right) * (1 - p + eps).log()).mean()

    batches = classes()
    batches[4] = (batches[4][0] * 1000, batches[4][1])
    return case(mlp(8, 1), batches, loss_fn=loss_fn)


def one_wild_value() -> Case:
    batches = curve()
    batches[6][0][0, 0] = 1e6
    return case(mlp(4, 1), batches, sgd=True, lr=0.05)


def summed(sgd: bool = True) -> Case:
    loss_fn = nn.MSELoss(reduction="sum")
    batches = curve(size=128)
    lr = 0.1 if sgd else 1e-2
    return case(mlp(4, 1), batches, sgd=sgd, lr=lr, loss_fn=loss_fn)


def far_targets() -> Case:
    return case(mlp(4, 1), [(x, 500 + 90 * y) for x, y in curve()], lr=1e-3)


def far_inputs() -> Case:
    batches = [(255 * x, y) for x, y in classes()]
    return case(mlp(8, 4), batches, sgd=True, lr=0.1)


def dead_output() -> Case:
    made = case(mlp(4, 1, end=nn.ReLU()), [(x, y + 1) for x, y in curve()])
    made["model"].fc3.bias.data.fill_(-9.0)
    return made


def flat_output() -> Case:
    made = case(mlp(4, 1, end=nn.Tanh()), curve())
    made["model"].fc3.bias.data.fill_(40.0)
    return made


def wide_layer() -> Case:
    made = good()
    made["model"].fc2.weight.data.mul_(1e4)
    return made


class Looped(nn.Module):
    """The same matrix at every step."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.leave = nn.Linear(1, 16), nn.Linear(16, 1)
        self.again = nn.Linear(16, 16, bias=False)
        nn.init.orthogonal_(self.again.weight, gain)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), 16)
        for t in range(x.shape[1]):
            h = torch.relu(self.again(h) + self.enter(x[:, t]))
        return self.leave(h)


def loop(gain: float) -> Case:
    generator = torch.Generator().manual_seed(3)
    batches = []
    for _ in range(30):
        x = torch.randn(16, 40, 1, generator=generator)
        batches.append((x, x[:, -3:].sum(1)))
    return case(Looped(gain), batches, sgd=True, lr=0.02)


def decayed(weight_decay: float) -> Case:
    made = good()
    sgd = torch.optim.SGD(
        made["model"].parameters(), lr=0.1, momentum=0.9, weight_decay=weight_decay
    )
    return dict(made, optimizer=sgd)


def deep(norm: bool) -> Case:
    torch.manual_seed(0)
    blocks = [
        layer
        for i in range(14)
        for layer in (
            nn.Linear(8 if i == 0 else 24, 24),
            nn.LayerNorm(24) if norm else nn.Identity(),
            nn.ReLU(),
        )
    ]
    model = nn.Sequential(*blocks, nn.Linear(24, 4))
    return case(model, classes(80, 32), sgd=True, lr=0.05)


def sigmoids(activation: type[nn.Module]) -> Case:
    torch.manual_seed(0)
    layers = [
        layer
        for i in range(5)
        for layer in (nn.Linear(8 if i == 0 else 32, 32), activation())
    ]
    model = nn.Sequential(*layers, nn.Linear(32, 4))
    return case(model, classes(), sgd=True, lr=0.05)


def solved(eps: float) -> Case:
    torch.manual_seed(0)
    model = nn.Linear(4, 1, bias=False)
    batches = []
    with torch.no_grad():
        for x, _ in ((x / 1000, y) for x, y in curve()):
            batches.append((x, model(x)))
            batches[-1][1].add_(1e-5 * x[:, :1])
    adam = torch.optim.Adam(model.parameters(), lr=5.0, eps=eps)
    return case(model, batches, optimizer=adam)


class Attention(nn.Module):
    """Post-norm blocks of self-attention over eight tokens."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(8, 16)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
            for _ in range(6)
        )
        self.out = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.table(x)
        for block in self.blocks:
            h = block(h)
        return self.out(h).transpose(1, 2)


def attention(lr: float) -> Case:
    generator = torch.Generator().manual_seed(4)
    batches = []
    for _ in range(60):
        x = torch.randint(0, 8, (16, 6), generator=generator)
        batches.append((x, (x + 3) % 8))
    return case(Attention(), batches, lr=lr)


RULE_CASES: dict[str, tuple[Callable[[], Case], Callable[[], Case]]] = {
    "broken values in the data": (nan_input, good),
    "broken weights": (nan_weight, good),
    "stale gradients": (lambda: own_loop("bs"), lambda: own_loop("zbs")),
    "clipping without effect": (
        lambda: own_loop("zbsc", clip=0.01),
        lambda: own_loop("zbcs", clip=0.01),
    ),
    "parameters without optimizer": (left_out, backbone_left_out),
    "cut graph": (argmax_in_the_loss, argmax_for_a_log),
    "softmax twice": (softmax_inside, good),
    "lonely batch norm": (single_samples, good),
    "frozen batch norm": (evaluation_mode, good),
    "overflow in half precision": (half_precision, good),
    "impossible samples": (empty_targets, good),
    "undefined operation": (
        lambda: naive_cross_entropy(0.0),
        lambda: naive_cross_entropy(1e-6),
    ),
    "outlying samples": (one_wild_value, good_regression),
    "summed loss": (summed, lambda: summed(sgd=False)),
    "target scale": (far_targets, good_regression),
    "input scale": (far_inputs, good),
    "dead units": (dead_output, good_regression),
    "flat ends": (flat_output, good_regression),
    "wide weights": (wide_layer, good),
    "recurrent growth": (lambda: loop(1.6), lambda: loop(0.8)),
    "strange option": (lambda: decayed(0.5), lambda: decayed(5e-4)),
    "plain depth": (lambda: deep(False), lambda: deep(True)),
    "vanishing signal": (lambda: sigmoids(nn.Sigmoid), lambda: sigmoids(nn.ReLU)),
    "small epsilon": (lambda: solved(1e-15), good_regression),
    "missing warm-up": (lambda: attention(5e-2), lambda: attention(3e-3)),
    "fast steps": (lambda: case(mlp(8, 4), classes(), sgd=True, lr=30.0), good),
    "tiny steps": (lambda: case(mlp(8, 4), classes(), sgd=True, lr=1e-6), good),
    "best change": (lambda: case(mlp(8, 4), classes(), sgd=True, lr=30.0), good),
}


def ask(rule: str, made: Case) -> Finding | None:
    ways = {
        "loss_fn": None,
        "loss": None,
        "step": None,
        "clip": None,
        "scheduler": None,
    }
    examination = Examination(
        TrainingSetup.checked(**{**ways, "max_steps": None, **made})
    )
    try:
        return next(r for r in RULES if r.name == rule).ask(examination)
    finally:
        examination.restore()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_every_rule_has_a_pair_of_cases() -> None:
    assert set(RULE_CASES) == {rule.name for rule in RULES}


@pytest.mark.parametrize("rule", RULE_CASES)
def test_a_rule_speaks_where_it_must(rule: str) -> None:
    assert ask(rule, RULE_CASES[rule][0]()) is not None


@pytest.mark.parametrize("rule", RULE_CASES)
def test_a_rule_is_silent_where_it_must(rule: str) -> None:
    assert ask(rule, RULE_CASES[rule][1]()) is None


class Everything(nn.Module):
    """A model with buffers, dropout, a hook, and an attribute that changes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.2))
        self.out = nn.Linear(16, 4)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        random.random()
        np.random.rand()  # noqa: NPY002
        return self.out(torch.relu(self.body(x)))


def state_of(made: Case, count: list[int]) -> list[Any]:
    model, optimizer = made["model"], made["optimizer"]
    modules = list(model.modules())
    return [
        {name: value.clone() for name, value in model.state_dict().items()},
        {
            n: None if p.grad is None else p.grad.clone()
            for n, p in model.named_parameters()
        },
        {k: v.clone() for s in optimizer.state.values() for k, v in s.items()},
        [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups],
        [m.training for m in modules],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules],
        [len(p._backward_hooks or ()) for p in model.parameters()],
        [len(optimizer._optimizer_step_pre_hooks), model.calls, list(count)],
        [torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()],  # noqa: NPY002
    ]


class Shuffled:
    """Batches in an order drawn from the global random states."""

    def __iter__(self) -> Any:
        random.random()
        return iter([classes(12)[int(i)] for i in torch.randperm(12)])


@pytest.mark.parametrize("way", ["loss_fn", "loss", "step", "raises", "shuffled"])
def test_nothing_is_left_behind(way: str) -> None:
    torch.manual_seed(0)
    model = Everything()
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.ExponentialLR(adam, 0.9)
    x, y = classes(1)[0]
    F.cross_entropy(model(x), y).backward()
    adam.step()
    model.body[2].eval()
    count = [0]

    def step(batch: Any) -> float:
        count[0] += 1
        if way == "raises" and count[0] > 5:
            raise KeyError("a bug of the owner")
        adam.zero_grad()
        loss = F.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        adam.step()
        return float(loss)

    ways: dict[str, Any] = {
        "loss_fn": {"loss_fn": F.cross_entropy},
        "loss": {
            "loss": lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])
        },
        "step": {"step": step},
        "raises": {"step": step},
        "shuffled": {"loss_fn": F.cross_entropy},
    }
    made = dict(model=model, optimizer=adam)
    far = [(100 * x, y) for x, y in classes(12)]
    batches: Any = Shuffled() if way == "shuffled" else far
    before = state_of(made, count)
    refused = pytest.raises(ValueError, match="KeyError at batch 5")
    with refused if way == "raises" else nullcontext():
        diagnose(model, adam, batches, scheduler=schedule.step, **ways[way])
    torch.testing.assert_close(state_of(made, count), before)
    assert schedule.last_epoch == 0


def test_a_snapshot_restores_what_closures_hold() -> None:
    noise = torch.Generator().manual_seed(0)
    memory, table, total = [1], {"a": torch.zeros(2)}, 0

    def step() -> None:
        nonlocal total
        total += 1
        memory.append(2)
        table["a"].add_(torch.rand(2, generator=noise))

    before = noise.get_state()
    snapshot = SavedState([step])
    step()
    snapshot.restore()
    assert (memory, total) == ([1], 0)
    torch.testing.assert_close(table["a"], torch.zeros(2))
    torch.testing.assert_close(noise.get_state(), before)


def hollow() -> list[Any]:
    return [(x[:0], y[:0]) if i == 3 else (x, y) for i, (x, y) in enumerate(classes())]


def raising() -> Any:
    yield classes(1)[0]
    torch.rand(1)
    raise OSError("the disk is gone")


def broken_step(batch: Any) -> float:
    raise RuntimeError("shapes cannot be multiplied")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batches": []}, ValueError, "batches: expected at least one batch, got none"),
        ({"batches": 3}, TypeError, "batches: expected an iterable"),
        ({"batches": [torch.ones(2, 8)]}, ValueError, r"expected pairs \(x, y\)"),
        ({"model": nn.ReLU()}, ValueError, "model: expected at least one parameter"),
        ({"model": "mlp"}, TypeError, "model: expected a torch.nn.Module"),
        ({"optimizer": None}, TypeError, "optimizer: expected a torch.optim.Optimizer"),
        ({"loss_fn": None}, ValueError, "exactly one of the three, got none"),
        ({"step": broken_step}, ValueError, "got loss_fn and step"),
        ({"loss_fn": 3}, TypeError, "loss_fn: expected a callable"),
        ({"loss_fn": None, "step": broken_step}, ValueError, "RuntimeError at batch 0"),
        ({"loss_fn": None, "step": lambda b: None}, TypeError, "to return the loss"),
        ({"clip": -1.0}, ValueError, "clip: expected a finite number > 0"),
        ({"scheduler": 3}, TypeError, "scheduler: expected a callable"),
        ({"max_steps": 0}, ValueError, "max_steps: expected a whole number >= 1"),
        ({"batches": hollow()}, ValueError, "got an empty one at position 3"),
        ({"batches": raising()}, OSError, "the disk is gone"),
        ({"loss_fn": lambda out, y: out}, TypeError, "reduce the loss to one number"),
    ],
)
def test_bad_input_is_refused_and_leaves_no_traces(
    changes: Case, error: type[Exception], message: str
) -> None:
    torch.manual_seed(0)
    model = Everything()
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    given = case(model, classes(), optimizer=adam)
    before = state_of(given, [])
    ways = {**given, **changes}
    with pytest.raises(error, match=message):
        diagnose(ways.pop("model"), ways.pop("optimizer"), ways.pop("batches"), **ways)
    torch.testing.assert_close(state_of(given, []), before)


def test_an_optimizer_of_another_model_is_a_finding() -> None:
    made = dict(good(), optimizer=torch.optim.SGD(mlp(8, 4).parameters(), lr=0.1))
    report = run(made)
    assert report.cause == "optimizer_misconfigured"
    assert "holds none" in report.findings[0].symptom


def test_sparse_gradients_are_read() -> None:
    torch.manual_seed(0)
    table = nn.EmbeddingBag(20, 4, sparse=True)
    batches = [((10 * x.abs()).long() % 20, y) for x, y in classes(60, 64)]
    adam = torch.optim.SparseAdam(list(table.parameters()), lr=0.03)
    assert run(case(table, batches, optimizer=adam)).cause == "healthy"


def run(made: Case) -> Report:
    ways = {k: v for k, v in made.items() if k not in ("model", "optimizer", "batches")}
    return diagnose(made["model"], made["optimizer"], made["batches"], **ways)


def test_what_was_only_watched_is_less_certain() -> None:
    made = case(mlp(8, 4), classes(), sgd=True, lr=30.0)
    model, optimizer = made["model"], made["optimizer"]

    def step(batch: Any) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    tried, watched = run(made), run(dict(made, loss_fn=None, step=step))
    assert tried.cause == watched.cause == "lr_too_high"
    assert watched.findings[0].confidence < tried.findings[0].confidence
    assert "only be watched" in watched.watched


@pytest.mark.parametrize(
    ("confidence", "word"), [(0.95, "certain"), (0.8, "likely"), (0.5, "possible")]
)
def test_a_finding_says_how_sure_it_is(confidence: float, word: str) -> None:
    finding = Finding("lr_too_high", "global", "It jumps.", confidence=confidence)
    assert finding.to_dict()["certainty"] == word
    assert f"{word} ({100 * confidence:.0f} %)" in str(Report((finding,)))


@pytest.mark.parametrize("cause", CAUSES)
def test_a_cause_leads_to_a_chapter(cause: str) -> None:
    chapters = Path(__file__).parents[1] / "chapters"
    assert (chapters / f"{CAUSES[cause].chapter}.ipynb").is_file()


def test_batches_may_be_a_generator_of_dictionaries() -> None:
    made = good()

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch["x"]), batch["y"])

    stream = ({"x": x, "y": y} for x, y in classes())
    report = diagnose(made["model"], made["optimizer"], stream, loss=loss)
    assert report.cause == "healthy"


@pytest.mark.parametrize("shape", [(), (16,), (4, 4), (2, 2, 4), (2, 2, 2, 2)])
def test_activations_of_any_shape_are_watched(shape: tuple[int, ...]) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        out = model(batch[0])
        extra = torch.relu(out.sum() if shape == () else out[:, 0].reshape(shape))
        return F.cross_entropy(out, batch[1]) + 1e-3 * torch.sigmoid(extra).mean()

    made = good()
    report = diagnose(made["model"], made["optimizer"], classes(), loss=loss)
    assert report.cause == "healthy"


def test_a_report_reads_as_a_page_and_as_a_log() -> None:
    made = nan_input()
    report = diagnose(
        made.pop("model"), made.pop("optimizer"), made.pop("batches"), **made
    )
    page = str(report)
    for word in ("Diagnosis: bad_data", "Symptom", "Evidence", "Fix", "field_guide"):
        assert word in page
    assert max(map(len, page.splitlines())) <= 100
    log = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert log["findings"][0]["layer"] == "data"
    assert Report().cause == "healthy"


def test_a_finding_needs_a_known_cause() -> None:
    with pytest.raises(ValueError, match="cause: expected one of lr_too_high"):
        Finding("gremlins", "all", "It squeaks.")
