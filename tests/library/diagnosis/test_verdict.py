"""The verdict: healthy for a reason, unclear in words, never healthy by default."""

import pytest
import torch
import torch.nn.functional as F
from score_clinic import CLINIC, examine, load
from torch import Tensor, nn
from trainings import Case, case, classes, curve, good, good_regression, mlp, run

import gradlib
from gradlib.diagnosis import Report
from gradlib.diagnosis.evidence.base_run import in_a_line
from gradlib.diagnosis.evidence.loss_curve import LossCurve
from gradlib.diagnosis.examination import Examination


def random_tokens(lr: float) -> Report:
    """A small language model on tokens that nobody can predict."""
    torch.manual_seed(0)
    ids = torch.randint(0, 64, (64, 16))
    model = nn.Sequential(
        nn.Embedding(64, 32), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 64)
    )

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        logits = model(batch[:, :-1]).flatten(0, 1)
        return F.cross_entropy(logits, batch[:, 1:].flatten())

    adam = torch.optim.AdamW(model.parameters(), lr=lr)
    return run(dict(model=model, optimizer=adam, batches=ids.split(4), loss=loss))


@pytest.mark.parametrize("lr", [10.0, 100.0])
def test_what_rises_on_data_that_cannot_be_learned_is_not_healthy(lr: float) -> None:
    report = random_tokens(lr)
    assert (report.verdict, report.cause) == ("broken", "lr_too_high")


def test_what_cannot_be_learned_is_unclear_or_a_guess() -> None:
    report = random_tokens(1e-3)
    assert report.verdict != "healthy"
    if report.findings:
        assert report.findings[0].certainty == "possible"
    else:
        assert report.reasons
        assert report.next_test


class Reader(nn.Module):
    """Can learn one batch by heart."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(16, 64)
        self.rnn, self.head = nn.GRU(64, 192, batch_first=True), nn.Linear(192, 16)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.rnn(self.table(ids))[0])


def resumed_at_its_floor() -> Case:
    """A trained language model on a text that is nearly random, with its optimizer."""
    torch.manual_seed(0)
    chances = (0.5 * torch.randn(16, 16)).softmax(1)
    batches = []
    for _ in range(200):
        ids = torch.randint(0, 16, (16, 9))
        for t in range(1, 9):
            ids[:, t] = torch.multinomial(chances[ids[:, t - 1]], 1).squeeze(1)
        batches.append(ids)
    model = Reader()

    def loss(model: nn.Module, ids: Tensor) -> Tensor:
        return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())

    adam = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for ids in batches[60:]:
        adam.zero_grad()
        loss(model, ids).backward()
        adam.step()
    return dict(model=model, optimizer=adam, batches=batches[:60], loss=loss)


def test_a_model_resumed_at_the_floor_of_its_text_is_not_broken() -> None:
    report = run(resumed_at_its_floor())
    assert (report.verdict, report.cause) == ("unclear", "unknown"), str(report)
    assert report.next_test


def test_worse_than_a_constant_and_falling_slowly_is_not_healthy() -> None:
    report = run(case(mlp(8, 4), classes(), sgd=True, lr=1e-3))
    assert (report.verdict, report.cause) == ("unclear", "unknown")


def test_an_index_beyond_the_table_at_the_first_batch_is_a_finding() -> None:
    made = dict(good(), batches=[(x, y + 4) for x, y in classes()])
    report = run(made)
    assert report.cause == "bad_data"
    assert "0 updates" in report.watched


def test_healthy_has_reasons_and_limits() -> None:
    report = run(good())
    assert report.verdict == "healthy"
    assert "tells nothing of held-out data" in report.next_test
    assert "best constant output reaches" in report.reasons[0]
    assert "6 of 6 parameters that want a gradient move" in report.reasons[1]
    assert "Because" in str(report)
    assert report.to_dict()["reasons"] == list(report.reasons)


@pytest.mark.parametrize(("steps", "verdict"), [(9, "unclear"), (40, "healthy")])
def test_a_few_updates_say_nothing(steps: int, verdict: str) -> None:
    report = run(dict(good(), max_steps=steps))
    assert report.verdict == verdict
    if verdict == "unclear":
        assert report.cause == "unknown"
        assert "Only 9 updates could be watched" in report.reasons[0]
        assert "max_steps" in report.next_test


def test_time_that_runs_out_leaves_it_open() -> None:
    made = case(mlp(8, 4), classes(), sgd=True, lr=1e-6)
    report = run(dict(made, seconds=1e-9))
    assert (report.verdict, report.cause) == ("unclear", "unknown")
    assert "seconds=1e-08" in report.next_test


def failing(after: int) -> Case:
    made = good()
    count = [0]

    def loss_fn(out: Tensor, y: Tensor) -> Tensor:
        count[0] += 1
        if count[0] > after:
            raise RuntimeError("the memory of the device is full")
        return F.cross_entropy(out, y)

    return dict(made, loss_fn=loss_fn)


def test_an_error_of_the_training_is_told() -> None:
    report = run(failing(5))
    assert (report.verdict, report.cause) == ("broken", "unknown")
    assert "the memory of the device is full" in report.reasons[0]
    with pytest.raises(ValueError, match="RuntimeError at batch 0: the memory"):
        run(failing(0))


def remarks_of(name: str) -> str:
    report = examine(load(CLINIC / f"{name}.py").make_fixed())
    assert report.verdict == "healthy"
    return " ".join(report.remarks)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cases/ok_flow_negative_loss", "The loss is negative"),
        ("cases/ok_scaler_skips", "The scaler skipped"),
        ("later/nothing_after_the_last_state", "do not enter the loss"),
        ("today/rewards_all_alike", "watch the reward"),
        ("today/ok_adapters_in_bfloat16", "had no gradient at the first step only"),
    ],
)
def test_what_is_odd_and_normal_is_a_remark(name: str, words: str) -> None:
    assert words in remarks_of(name)


def in_order(loud_first: bool) -> Case:
    """Loud inputs meet a small learning rate, quiet ones a large one, or not."""
    torch.manual_seed(0)
    rule = torch.randn(4, 1)
    sizes = [5.0] * 20 + [0.5] * 20 if loud_first else [0.5] * 40
    inputs = [size * torch.randn(16, 4) for size in sizes]
    made = case(nn.Linear(4, 1), [(x, x @ rule) for x in inputs], sgd=True, lr=1.0)
    rates = torch.optim.lr_scheduler.LambdaLR(
        made["optimizer"], lambda step: 0.01 if step < 20 else 0.5
    )
    return dict(made, scheduler=rates)


def test_what_learns_by_the_luck_of_an_order_is_broken() -> None:
    report = run(in_order(loud_first=True))
    assert report.verdict == "broken"
    assert report.cause != "healthy"
    assert "with the same batches in reverse order it ends at" in report.reasons[0]
    assert "another seed" in report.next_test
    assert run(in_order(loud_first=False)).verdict == "healthy"


@pytest.mark.parametrize(("end", "learns"), [(1.05, False), (0.93, False), (0.8, True)])
def test_learning_is_clearly_below_a_constant(end: float, learns: bool) -> None:
    assert LossCurve((1.3,) * 5 + (end,) * 35, 1.0).learns is learns


@pytest.mark.parametrize(("third", "learns"), [(0.5, False), (1.0, True)])
def test_large_outputs_that_shrink_count_while_they_shrink(
    third: float, learns: bool
) -> None:
    losses = (1000.0,) * 10 + (10.0,) * 10 + (third,) * 10 + (0.5,) * 10
    assert LossCurve(losses, 0.45).learns is learns


def test_the_luck_of_batches_takes_no_level_below_the_lowest_loss() -> None:
    untrained = (1000.0,) * 5 + (1400.0,) * 4 + (600.0,) + (1000.0,) * 30
    losses = (1000.0,) * 5 + (300.0,) + (0.5,) * 34
    assert LossCurve(losses, 0.45, untrained_losses=untrained).best == 0.5


def test_a_jump_far_above_the_untrained_model_is_unclear() -> None:
    made = good_regression()
    count = [0]

    def loss_fn(out: Tensor, y: Tensor) -> Tensor:
        count[0] += out.requires_grad
        loud = 1e5 if count[0] == 30 and out.requires_grad else 1.0
        return loud * F.mse_loss(out, y)

    report = run(dict(made, loss_fn=loss_fn, clip=1.0))
    assert (report.verdict, report.cause) == ("unclear", "unknown")
    assert "At update 29 the loss is" in report.reasons[0]
    assert "another seed" in report.next_test


def test_a_trial_tells_learning_from_staying_finite() -> None:
    made: Examination = object.__new__(Examination)
    made._trials = {
        "a": LossCurve((2.0,) * 20 + (0.5,) * 20, 1.0),
        "b": LossCurve((2.0,) * 20 + (1.0,) * 20, 1.0),
    }
    assert made.outcome("a").endswith("learns")
    assert "stays finite" in made.outcome("b")


def test_warnings_of_the_run_are_told() -> None:
    made = case(mlp(4, 1), [(x, y[:, 0]) for x, y in curve()])
    report = run(made)
    assert report.cause == "shape_mismatch"
    assert "Using a target size" in report.findings[0].symptom
    assert any("Using a target size" in remark for remark in report.remarks)


def test_a_long_error_is_told_in_a_line() -> None:
    values = torch.randn(64, 4)
    told = in_a_line(ValueError(f"found invalid values:\n{values}"))
    assert "\n" not in told
    assert "tensor" not in told
    assert len(in_a_line("x" * 5000)) < 300


@pytest.mark.parametrize(("updates", "cause"), [(0, "init_too_large"), (3, "unknown")])
def test_weights_that_updates_have_broken_tell_nothing(
    updates: int, cause: str
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.randn(16, 6)
    y = x[:, :3].argmax(dim=1)
    for _ in range(updates):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    report = gradlib.diagnose(model, optimizer, [(x, y)] * 9, loss_fn=F.cross_entropy)
    assert (report.verdict, report.cause) == ("broken", cause)
    assert ("last good checkpoint" in str(report).replace("\n              ", " ")) == (
        updates > 0
    )
