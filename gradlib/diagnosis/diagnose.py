"""Diagnose a training that can be run: watch it, try small changes, name the cause."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gradlib.checks import check_positive
from gradlib.clip import Clip
from gradlib.diagnosis.examination import ORDERS, SECONDS, Examination
from gradlib.diagnosis.report import Finding, Report
from gradlib.diagnosis.rules.table import ask_rules
from gradlib.diagnosis.training_setup import TrainingSetup
from gradlib.diagnosis.verdict import (
    Verdict,
    judge_lost_weights,
    judge_luck,
    judge_training,
)
from gradlib.state import uncompiled

# Factor of every confidence where only another order of the batches is broken.
BY_LUCK = 0.9


def diagnose(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[Any],
    *,
    loss_fn: Callable[..., Tensor] | None = None,
    loss: Callable[..., Tensor] | None = None,
    step: Callable[..., Any] | None = None,
    clip: Clip | None = None,
    scheduler: Any = None,
    max_steps: int | None = None,
    seconds: float = SECONDS,
) -> Report:
    """Train for some steps, watch, try small changes, and name the cause.

    The training runs on the batches given. Rules look at the data, the layers, the
    gradients and the order of calls; where they suspect something, a short run from
    the same start with that one thing changed must cure the training. What no rule
    finds ill also runs on the batches in two other orders: a training that one of them
    breaks learns by luck. Afterwards everything is as it was.

    Args:
        model: The model, in the mode in which it is trained.
        optimizer: Its optimizer, also inside a wrapper such as Accelerate's.
        batches: Iterable of batches; ``(x, y)`` with ``loss_fn``, else of any form.
            At most the first 100 (or ``max_steps``) are used.
        loss_fn: Called as ``loss_fn(output, target)``.
        loss: Called as ``loss(model, batch)``; returns the loss, alone, first, or
            under the name ``loss``.
        step: Called as ``step(batch)``; makes the whole update, returns the loss.
            It can only be watched and scaled, so findings are less certain. What it
            reaches by attributes, closures and globals (at most 50,000 objects) is
            put back afterwards; files and other processes are not.
        clip: A norm, or a callable on the list of parameters. With ``step``, the
            norm that the owner believes to clip at.
        scheduler: A scheduler, or a callable without arguments, run after updates.
        max_steps: Length of the runs, in updates.
        seconds: Processor time for the base run and all trials. What was not tried
            by then counts as no cure, and the report says so; on a slow machine, or
            with a large model, give more.

    Returns:
        A report; ``report.verdict`` is ``"broken"``, ``"healthy"`` (for the reasons
        it gives) or ``"unclear"``; ``report.cause`` a key of ``CAUSES``,
        ``"healthy"`` or ``"unknown"``.

    Raises:
        ValueError: no batches, no parameters, not exactly one of the three ways to
            train, LBFGS without ``step``, a model distributed over processes, or an
            update that raises for reasons other than illness.
        TypeError: an argument of the wrong kind.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> batches = [(100 + torch.randn(8, 3), torch.randn(8, 1)) for _ in range(9)]
        >>> batches[4][0][2, 1] = float("nan")
        >>> model = nn.Linear(3, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> diagnose(model, sgd, batches, loss_fn=nn.MSELoss()).cause
        'bad_data'
    """
    setup = TrainingSetup.checked(
        model,
        optimizer,
        batches,
        loss_fn=loss_fn,
        loss=loss,
        step=step,
        clip=clip,
        scheduler=scheduler,
        max_steps=max_steps,
    )
    with uncompiled():
        examination = Examination(setup, check_positive(seconds, "seconds"))
        try:
            lost = judge_lost_weights(setup)
            findings = [] if lost else ask_rules(examination)
            judged = lost or judge_training(examination, findings)
            if judged.verdict == "healthy" and examination.unlucky_order:
                findings, judged = _in_another_order(examination)
        finally:
            examination.restore()
    curve = examination.curve
    return Report(
        tuple(findings),
        _watched(examination),
        {
            "updates": len(curve.losses),
            "loss at the start": curve.start,
            "loss at the end": curve.end,
            "naive loss": curve.naive,
        },
        verdict=judged.verdict,
        reasons=judged.reasons,
        remarks=judged.remarks,
        next_test=judged.next_test,
    )


def _in_another_order(examination: Examination) -> tuple[list[Finding], Verdict]:
    """Ask the rules about the order of the batches that breaks the training."""
    name = examination.unlucky_order
    setup = ORDERS[name](examination.setup)
    other = Examination(setup, max(1.0, examination.seconds_left))
    try:
        findings = [
            replace(
                f,
                confidence=BY_LUCK * f.confidence,
                evidence={**f.evidence, "batches": name},
            )
            for f in ask_rules(other)
        ]
    finally:
        other.restore()
    return findings, judge_luck(examination, name)


def _watched(examination: Examination) -> str:
    curve, setup = examination.curve, examination.setup
    ends_in_nan = bool(curve.losses) and math.isnan(curve.losses[-1])
    watched = (
        f"{len(curve.losses)} updates on {len(setup.batches)} batches; the loss went "
        f"from {curve.start:.4g} to {math.nan if ends_in_nan else curve.end:.4g}"
    )
    if curve.naive is not None:
        watched += f" (a constant output reaches {curve.naive:.4g})"
    if setup.step is not None:
        watched += ". With step= the update could only be watched and scaled"
    if examination.out_of_time:
        watched += (
            f". The {examination.seconds:g} s of processor time ended before all "
            "trials were over, so a cause may be missed: give more with seconds="
        )
    return watched + "."
