"""diagnose_history(): a recorded run is read, rule by rule."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradlib.diagnosis import diagnose_history, diagnose_log
from gradlib.diagnosis.evidence.loss_curve import LossCurve
from gradlib.diagnosis.rules.history import HISTORY_RULES
from gradlib.history import History
from gradlib.monitor import GradientMonitor


def history(**columns: list[float]) -> History:
    made = History()
    for step, row in enumerate(zip(*columns.values(), strict=True)):
        made.append(step, **dict(zip(columns, row, strict=True)))
    return made


STEPS = range(30)
FALLING = [2.0 * 0.9**t for t in STEPS]
FLAT = [2.0 + 1e-3 * math.sin(5 * t) for t in STEPS]
NAN_AT_20 = [*FALLING[:20], *[math.nan] * 10]
EXPLODING = [3.0**t for t in STEPS]


def column(name: str, value: float, n: int = 30) -> dict[str, list[float]]:
    return {name: [value] * n}


def outputs(name: str, mean: float, std: float, zeros: float) -> dict[str, list[float]]:
    return {
        **column(f"activation_mean/{name}", mean),
        **column(f"activation_std/{name}", std),
        **column(f"activation_zeros/{name}", zeros),
    }


def fading(rate: float) -> History:
    norms = {f"gradient_norm/{i}.weight": [rate ** (4 - i)] * 30 for i in range(5)}
    return history(loss=FLAT, **norms)


def updates(a: float, b: float, loss: list[float]) -> History:
    named = {"a.weight": a, "b.weight": b}
    ratios = {f"update_ratio/{name}": [ratio] * 30 for name, ratio in named.items()}
    norms = {f"gradient_norm/{name}": [1.0] * 30 for name in named}
    return history(loss=loss, **ratios, **norms)


def growing(layer: float) -> History:
    return history(loss=FLAT, **outputs("0", 0, 1, 0), **outputs("2", 0, layer, 0))


SPEAKS_AND_SILENT: dict[str, tuple[str, History, History]] = {
    "sudden_nan": (
        "loss_numerics",
        history(loss=NAN_AT_20, gradient_norm=FALLING),
        history(loss=FALLING, gradient_norm=FALLING),
    ),
    "growing_norms": (
        "lr_too_high",
        history(loss=EXPLODING, gradient_norm=EXPLODING),
        history(loss=FALLING, gradient_norm=EXPLODING),
    ),
    "kept_gradients": (
        "missing_zero_grad",
        history(loss=FALLING, gradient_norm=[1.0 + t for t in STEPS]),
        history(loss=FALLING, gradient_norm=[2.0 + t % 3 for t in STEPS]),
    ),
    "wide_outputs": ("init_too_large", growing(500.0), growing(3.0)),
    "fading_layers": ("vanishing", fading(1e-2), fading(0.5)),
    "dead_layers": (
        "dead_relu",
        history(loss=FLAT, **outputs("1", 0.0, 0.0, 1.0)),
        history(loss=FLAT, **outputs("1", 0.4, 0.6, 0.5)),
    ),
    "layers_at_their_limits": (
        "saturated_activation",
        history(loss=FLAT, **outputs("1", 0.3, math.sqrt(1 - 0.09), 0.0)),
        history(loss=FLAT, **outputs("1", 0.3, 0.5, 0.0)),
    ),
    "still_parameters": (
        "optimizer_misconfigured",
        updates(0.0, 1e-3, FALLING),
        updates(1e-3, 1e-3, FALLING),
    ),
    "violent_updates": (
        "lr_too_high",
        updates(0.6, 0.6, FLAT),
        updates(0.6, 0.6, FALLING),
    ),
}
RULES = {rule.__name__: rule for rule in HISTORY_RULES}


def test_every_rule_has_a_pair_of_histories() -> None:
    assert set(SPEAKS_AND_SILENT) == set(RULES)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_speaks_and_is_silent(name: str) -> None:
    cause, ill, well = SPEAKS_AND_SILENT[name]
    found = RULES[name](ill, LossCurve(tuple(ill["loss"])))
    assert found is not None
    assert found.cause == cause
    assert RULES[name](well, LossCurve(tuple(well["loss"]))) is None
    assert diagnose_history(ill).cause == cause


def test_a_falling_loss_is_healthy() -> None:
    assert diagnose_history(history(loss=FALLING, gradient_norm=FALLING)).cause == (
        "healthy"
    )


def test_a_parameter_without_gradient_is_detached() -> None:
    still = {**column("update_ratio/a.weight", 0), **column("update_ratio/b.weight", 1)}
    seen = history(loss=FALLING, **still, **column("gradient_norm/b.weight", 1))
    finding = diagnose_history(seen).findings[0]
    assert (finding.cause, finding.layer) == ("detached_graph", "a")


def test_a_layer_normalized_to_variance_one_is_not_at_its_limits() -> None:
    seen = history(loss=FLAT, **outputs("norm", 0.0, 1.0, 0.0))
    assert not diagnose_history(seen).findings


def record(
    change: Callable[[nn.Sequential], object] = lambda model: None,
    *,
    lr: float = 0.1,
    nan_in: str = "",
    activation: type[nn.Module] = nn.ReLU,
    zero: bool = True,
) -> History:
    torch.manual_seed(0)
    layers = [nn.Linear(8, 32), activation(), nn.Linear(32, 32), activation()]
    model = nn.Sequential(*layers, nn.Linear(32, 4))
    change(model)
    sgd = torch.optim.SGD(model.parameters(), lr=lr)
    centers = torch.randn(4, 8)
    with GradientMonitor(model, updates_every=5, activations=True) as monitor:
        for step in range(40):
            y = torch.randint(0, 4, (32,))
            x = centers[y] + 0.5 * torch.randn(32, 8)
            if nan_in == "data":
                x[0, 0] = math.nan
            loss = F.cross_entropy(model(x), y)
            if nan_in == "loss" and step == 25:
                loss = loss + (loss - loss.detach()).sqrt()
            if zero:
                sgd.zero_grad()
            loss.backward()
            monitor.log(loss)
            sgd.step()
    return monitor.history


def shift_bias(model: nn.Sequential) -> None:
    model[0].bias.data.fill_(-50.0)


def widen(model: nn.Sequential) -> None:
    model[2].weight.data.mul_(3000)


@pytest.mark.parametrize(
    ("made", "cause", "layer"),
    [
        (lambda: record(), "healthy", ""),
        (lambda: record(lr=60.0), "lr_too_high", "global"),
        (lambda: record(shift_bias), "dead_relu", "1"),
        (lambda: record(widen, lr=1e-9), "init_too_large", "2"),
        (lambda: record(nan_in="data"), "bad_data", "data"),
        (lambda: record(nan_in="loss"), "loss_numerics", "4"),
        (lambda: record(lr=0.05, zero=False), "missing_zero_grad", "loop"),
        (lambda: record(shift_bias, activation=nn.Tanh), "saturated_activation", "1"),
    ],
    ids=[
        "healthy",
        "fast",
        "dead",
        "wide",
        "nan in data",
        "nan in loss",
        "kept",
        "saturated",
    ],
)
def test_a_monitored_training_is_read(
    made: Callable[[], History], cause: str, layer: str
) -> None:
    torch.set_num_threads(1)
    report = diagnose_history(made())
    assert report.cause == cause, str(report)
    if layer:
        assert report.findings[0].layer == layer
        assert report.findings[0].certainty != "certain"


def test_a_history_without_losses_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a column 'loss'"):
        diagnose_history(history(gradient_norm=FALLING))
    with pytest.raises(TypeError, match=r"expected a gradlib\.History"):
        diagnose_history(FALLING)  # type: ignore[arg-type]


def test_the_first_record_is_the_start():
    report = diagnose_history(history(loss=[3.9] + [169.0] * 3 + [80.0] * 24))
    assert report.verdict == "broken"
    assert report.cause == "lr_too_high"
    assert "from 3.9 to 80" in report.watched


def test_a_missing_column_is_no_evidence():
    report = diagnose_history(history(loss=EXPLODING))
    assert "gradient" not in report.findings[0].symptom
    assert report.findings[0].evidence == {}


class Branched(nn.Module):
    """A residual branch that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        nn.init.zeros_(self.b.weight)
        nn.init.zeros_(self.b.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x + self.b(torch.relu(self.a(x))))


@pytest.mark.parametrize("steps", [3, 30])
def test_a_branch_that_starts_at_zero_is_no_misconfiguration(steps: int) -> None:
    torch.manual_seed(0)
    model = Branched()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    centers = torch.randn(4, 8)
    with GradientMonitor(model) as monitor:
        for _ in range(steps):
            y = torch.randint(0, 4, (32,))
            sgd.zero_grad()
            loss = F.cross_entropy(model(centers[y] + torch.randn(32, 8)), y)
            loss.backward()
            monitor.log(loss)
            sgd.step()
    assert diagnose_history(monitor.history).findings == ()


def test_outputs_near_zero_are_not_at_the_limit_of_a_sigmoid() -> None:
    near = history(loss=FLAT[:4], **dict(zip(*_first_four(), strict=True)))
    assert RULES["layers_at_their_limits"](near, LossCurve(tuple(FLAT[:4]))) is None


def _first_four() -> tuple[list[str], list[list[float]]]:
    columns = outputs("wte", -0.001, 0.02, 0.0)
    return list(columns), [values[:4] for values in columns.values()]


def test_rules_on_logs_speak_of_histories_too():
    same = diagnose_history(history(loss=[1.2345] * 6))
    assert (same.verdict, same.cause, same.first_bad_step) == (
        "broken",
        "detached_graph",
        0,
    )
    assert "norm of one parameter" in same.next_test
    short = diagnose_history(history(loss=[2.5, 2.6]))
    assert (short.verdict, short.cause) == ("unclear", "unknown")


def test_what_rules_on_logs_add_is_told_after_the_rules_on_layers():
    losses = [2.5] * 10 + [math.nan]
    report = diagnose_history(history(loss=losses, gradient_norm=[1.0] * 11))
    sure = [finding.confidence for finding in report.findings]
    assert report.cause == "loss_numerics"
    assert sure == sorted(sure, reverse=True)
    assert "fp16_overflow" in {finding.cause for finding in report.findings[1:]}


def as_csv(history: History) -> str:
    columns = [history[name] for name in history.columns]
    rows = [history.columns, *zip(*columns, strict=True)]
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


@pytest.mark.parametrize("name", SPEAKS_AND_SILENT)
def test_a_log_and_a_history_of_one_run_are_judged_alike(name: str) -> None:
    for seen in SPEAKS_AND_SILENT[name][1:]:
        if all("/" not in column for column in seen.columns):
            continue  # of a log without layers the program is asked for its habits too
        told, read = diagnose_history(seen), diagnose_log(as_csv(seen))
        assert [f.to_dict() for f in read.findings] == [
            f.to_dict() for f in told.findings
        ]
        assert (read.verdict, read.next_test) == (told.verdict, told.next_test)
