"""Time that runs out is told, and is an argument."""

from typing import Any

import pytest
import torch
from torch import nn

from gradlib.diagnosis import Report, diagnose


def too_fast(**changes: Any) -> Report:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
    xs = torch.randn(40, 8, 4)
    batches = [(x, x.sum(1, keepdim=True)) for x in xs]
    sgd = torch.optim.SGD(model.parameters(), lr=3.0)
    return diagnose(model, sgd, batches, loss_fn=nn.MSELoss(), **changes)


def test_time_that_runs_out_is_told() -> None:
    report = too_fast(seconds=1e-9)
    assert "The 1e-09 s of processor time ended before all trials" in report.watched
    assert "lr_too_high" not in [finding.cause for finding in report.findings]


def test_time_that_suffices_is_not_mentioned() -> None:
    report = too_fast(seconds=60)
    assert report.cause == "lr_too_high"
    assert "processor time" not in report.watched


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds: expected a finite number > 0"):
        too_fast(seconds=seconds)


def test_a_time_is_a_number() -> None:
    with pytest.raises(TypeError, match="seconds: expected a finite number > 0"):
        too_fast(seconds="9")
