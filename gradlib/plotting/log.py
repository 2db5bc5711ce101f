"""The curves of a log, with its events and its first bad step."""

import math
from array import array
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradlib.diagnosis.evidence.training_log import Curve, TrainingLog
from gradlib.diagnosis.report import Report
from gradlib.logs.log import Log
from gradlib.plotting.style import MUTED, PALETTE

DRAWN = 4_000
"""Points of a curve that are drawn; more are not seen."""


def log_figure(log: Log, report: Report | None = None) -> Figure:
    """Draw loss, gradient norm and loss scale of a log, one below the other.

    Overflows, stops and resumes are marked below the curves, records that are not
    finite by crosses at the upper edge, and the first bad step by a line.

    Args:
        log: What `gradlib.read_log` read.
        report: What `gradlib.diagnose_log` said, for the first bad step.

    Returns:
        A figure.
    """
    evidence = TrainingLog(log)
    panels: list[tuple[str, list[Curve]]] = [
        ("loss", [evidence.loss] if evidence.loss else []),
        ("gradient norm", evidence.norms[:1]),
        ("loss scale", _scale(evidence)),
    ]
    panels = [panel for panel in panels if panel[1]] or [("loss", [])]
    figure, axes = plt.subplots(
        len(panels), 1, sharex=True, squeeze=False, figsize=(7, 1 + 1.9 * len(panels))
    )
    for ax, (label, curves) in zip(axes[:, 0], panels, strict=True):
        for curve in curves:
            _draw(ax, curve, log)
        ax.set_ylabel(label)
        for event in log.events:
            ax.plot(
                log.shown(event.step), 0.02, "|", color=PALETTE[5], markersize=9,
                transform=ax.get_xaxis_transform(),
            )  # fmt: skip
        if report is not None and report.first_bad_step is not None:
            ax.axvline(report.first_bad_step, color=PALETTE[1], linestyle="--")
    axes[-1, 0].set_xlabel(log.unit)
    if report is not None:
        told = report.verdict
        if report.first_bad_step is not None:
            told += f", first {report.first_is} {log.unit} {report.first_bad_step}"
        axes[0, 0].set_title(told)
    figure.tight_layout()
    return figure


def _scale(evidence: TrainingLog) -> list[Curve]:
    if not evidence.scales:
        return []
    steps, values = zip(*evidence.scales, strict=True)
    return [Curve("loss scale", array("q", steps), array("d", values))]


def _draw(ax: Axes, curve: Curve, log: Log) -> None:
    finite = curve.finite
    stride = max(1, len(finite) // DRAWN)
    steps: list[Any] = [log.shown(step) for step in finite.steps[::stride]]
    ax.plot(steps, finite.values[::stride], color=PALETTE[0], linewidth=1.2, marker=".",
            markersize=3 if len(finite) > 60 else 6)  # fmt: skip
    for place in curve.bad[:DRAWN]:
        ax.plot(
            log.shown(curve.steps[place]), 0.97, "x", color=PALETTE[1],
            transform=ax.get_xaxis_transform(),
        )  # fmt: skip
    values = finite.values
    if values and min(values) > 0 and max(values) > 30 * min(values):
        ax.set_yscale("log")
    if not values:
        ax.text(
            0.5, 0.5, "no finite number", color=MUTED, ha="center",
            transform=ax.transAxes,
        )  # fmt: skip
    ax.margins(x=0.03)
    if values and not all(map(math.isfinite, ax.get_ylim())):
        ax.set_ylim(min(values), max(values))
