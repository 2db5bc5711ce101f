"""What the page shows of a log: the report, and a plot of what was read.

It runs in the browser, beside the same files of gradlib that the command uses, and
writes HTML. Whatever comes from the log is escaped.
"""

import json
import math
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path

from gradlib.diagnosis.causes import CAUSES, page_of
from gradlib.diagnosis.diagnose_log import judge
from gradlib.diagnosis.evidence.training_log import TrainingLog
from gradlib.diagnosis.report import Finding, Report
from gradlib.logs import Log
from gradlib.logs.lines import read_lines
from gradlib.logs.reading import Reader

CHAPTERS = "../chapters/"
TOLD_EVERY = 2_000
"""Lines between two messages on how far the reading is."""

DRAWN = 2_000
"""Points of a curve that are drawn; more are not seen."""

LEFT, RIGHT, TOP, HEIGHT, BELOW = 62, 8, 26, 110, 42
"""Room around a panel of the plot and its height, in CSS pixels."""


def answer(
    path: str, width: int = 640, told: Callable[[int], object] = lambda _: None
) -> str:
    """The verdict and the page on a log, or why it cannot be read, as JSON.

    Args:
        path: Name of the file.
        width: Room for the plot, in CSS pixels.
        told: Called with the number of characters read so far.
    """
    try:
        log = read(path, told)
        report = judge(log)
    except (OSError, ValueError, ImportError) as error:
        told = str(error) or f"{path}: the page cannot read such a file"
        return json.dumps({"error": told})
    return json.dumps(
        {
            "verdict": report.verdict,
            "title": headline(report),
            "html": page(log, report, width),
            "text": f"{report.verdict.upper()}\n{report}",
        }
    )


def read(path: str, told: Callable[[int], object]) -> Log:
    """The same as `gradlib.read_log`, and says how far it is."""
    reader = Reader(Path(path).name)
    done = 0
    for number, line in enumerate(read_lines(Path(path)), 1):
        reader.read(line)
        done += len(line) + 1
        if number % TOLD_EVERY == 0:
            told(done)
    return reader.close()


def headline(report: Report) -> str:
    """The verdict in a line.

    Example:
        >>> headline(Report(verdict="unclear"))
        'Unclear: too little to say'
    """
    if report.verdict == "broken" and report.cause in CAUSES:
        sure = report.findings[0].certainty
        return f"Broken; {sure} cause: {CAUSES[report.cause].title}"
    if report.verdict == "healthy":
        return "Healthy" + (": what looks odd is normal" if report.remarks else "")
    return "Unclear: " + ("look at this" if report.remarks else "too little to say")


def page(log: Log, report: Report, width: int) -> str:
    """All below the headline, as HTML."""
    parts = []
    if report.first_bad_step is not None:
        parts.append(
            f'<p class="log-first">First {report.first_is} {escape(log.unit)}: '
            f"<strong>{report.first_bad_step}</strong></p>"
        )
    parts.append(plot(log, report, width))
    if report.findings:
        told = "Likely causes, the likeliest first"
        parts.append(f"<h3>{told if len(report.findings) > 1 else 'The cause'}</h3>")
        parts.append(f"<ol>{''.join(findings(report.findings))}</ol>")
    if report.next_test:
        parts.append(f"<h3>Test this next</h3><p>{escape(report.next_test)}</p>")
    if report.remarks:
        items = "".join(f"<li>{escape(remark)}</li>" for remark in report.remarks)
        parts.append(f"<h3>Remarks</h3><ul>{items}</ul>")
    parts.append(f"<h3>What was read</h3><p>{escape(report.watched)}</p>")
    if log.unread:
        lines = "\n".join(line[:200] for line in log.unread[:10])
        parts.append(
            "<p>These lines speak of a loss or a norm and gave no number:</p>"
            f'<pre tabindex="0">{escape(lines)}</pre>'
        )
    return "".join(parts)


def findings(found: Iterable[Finding]) -> Iterable[str]:
    """Each cause with what speaks for it, its cure and its chapter."""
    before = ""
    for finding in found:
        seen = "" if finding.symptom == before else f"<p>{escape(finding.symptom)}</p>"
        before = finding.symptom
        chapter = finding.chapter.partition("#")[0].replace("_", " ")
        yield (
            f"<li><p><strong>{escape(sentence(CAUSES[finding.cause].title))}</strong> "
            f"({finding.certainty}, {100 * finding.confidence:.0f} %, "
            f"<code>{finding.cause}</code>)</p>{seen}"
            f"<p><em>Cure.</em> {escape(finding.fix)} "
            f'<a href="{CHAPTERS}{page_of(finding.chapter)}">Read on: {chapter}</a>'
            "</p></li>"
        )


def sentence(text: str) -> str:
    """The text with a capital at its start."""
    return text[:1].upper() + text[1:]


# The plot.


def plot(log: Log, report: Report, width: int) -> str:
    """Loss, gradient norm and loss scale, one below the other, as SVG."""
    panels = [(n, p, b) for n, p, b in curves(log) if p and len(p) + len(b) > 1]
    if not panels:
        return ""
    steps = [step for _, points, bad in panels for step, _ in [*points, *bad]]
    first, last = min(steps), max(steps)
    marked = report.first_bad_step
    if marked is not None:
        first, last = min(first, marked), max(last, marked)
    inner = width - LEFT - RIGHT
    span = (last - first) or 1

    def across(step: float) -> float:
        return LEFT + inner * (step - first) / span

    drawn = []
    for index, (name, points, bad) in enumerate(panels):
        top = index * (HEIGHT + TOP) + TOP
        drawn += panel(name, points, bad, across, top, width - RIGHT)
    bottom = len(panels) * (HEIGHT + TOP)
    events = [log.shown(event.step) for event in log.events[:DRAWN]]
    drawn += [
        f'<path class="log-event" d="M{across(step):.1f} {bottom}v-8"/>'
        for step in events
        if first <= step <= last
    ]
    if marked is not None:
        x = across(marked)
        part = (x - LEFT) / inner
        anchor = "start" if part < 0.2 else "end" if part > 0.8 else "middle"
        drawn.append(
            f'<path class="log-mark" d="M{x:.1f} {TOP}V{bottom + 4}"/>'
            f'<text class="log-told" x="{x:.1f}" y="{bottom + 34}" '
            f'text-anchor="{anchor}">first {report.first_is} {escape(log.unit)}: '
            f"{marked}</text>"
        )
    drawn.append(
        f'<text x="{LEFT}" y="{bottom + 16}">{first}</text>'
        f'<text x="{LEFT + inner / 2:.1f}" y="{bottom + 16}" text-anchor="middle">'
        f"{escape(log.unit)}</text>"
        f'<text x="{width - RIGHT}" y="{bottom + 16}" text-anchor="end">{last}</text>'
    )
    names = ", ".join(name for name, _, _ in panels)
    label = f"{names} by {log.unit}, from {first} to {last}"
    if marked is not None:
        label += f"; the first {report.first_is} {log.unit}, {marked}, is marked"
    legend = legend_of(panels, bool(events))
    return (
        f'<figure class="log-plot"><svg viewBox="0 0 {width} {bottom + BELOW}" '
        f'role="img" aria-label="{escape(sentence(label))}">{"".join(drawn)}</svg>'
        f"{legend}</figure>"
    )


Points = list[tuple[int, float]]


def legend_of(panels: list[tuple[str, Points, Points]], events: bool) -> str:
    told = []
    if any(bad for _, _, bad in panels):
        told.append("Crosses: not a finite number.")
    if events:
        told.append("Ticks at the foot: skipped updates and other events.")
    return f'<p class="log-legend">{" ".join(told)}</p>' if told else ""


def curves(log: Log) -> list[tuple[str, Points, Points]]:
    """Name, finite points and other points of each panel."""
    evidence = TrainingLog(log)
    found = [evidence.loss] if evidence.loss else []
    panels = []
    for curve in [*found, *evidence.norms[:1]]:
        pairs = [
            (log.shown(s), v) for s, v in zip(curve.steps, curve.values, strict=True)
        ]
        finite = [pair for pair in pairs if math.isfinite(pair[1])]
        bad = [pair for pair in pairs if not math.isfinite(pair[1])]
        panels.append((curve.name.replace("_", " "), thinned(finite), bad[:DRAWN]))
    scales = [(log.shown(step), value) for step, value in evidence.scales]
    panels.append(("loss scale", thinned(scales), []))
    return panels


def thinned(points: Points) -> Points:
    """At most 2,000 points; of neighbors the largest stays, so no spike is lost.

    Example:
        >>> few = thinned([(step, float(step == 700)) for step in range(100_000)])
        >>> len(few) <= 2_000, max(value for _, value in few)
        (True, 1.0)
    """
    stride = -(-len(points) // DRAWN) or 1
    if stride == 1:
        return points
    return [
        max(points[k : k + stride], key=lambda point: point[1])
        for k in range(0, len(points), stride)
    ]


def panel(
    name: str,
    points: Points,
    bad: Points,
    across: Callable[[float], float],
    top: float,
    right: float,
) -> Iterable[str]:
    """One curve with its axis."""
    values = [value for _, value in points]
    low, high = min(values), max(values)
    logarithmic = low > 0 and high > 30 * low
    if logarithmic:
        low, high = math.log10(low), math.log10(high)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5

    def up(value: float) -> float:
        height = math.log10(value) if logarithmic else value
        return top + HEIGHT - 6 - (HEIGHT - 24) * ((height - low) / (high - low))

    yield f'<text class="log-name" x="{LEFT + 6}" y="{top - 8}">{escape(name)}</text>'
    yield f'<path class="log-axis" d="M{LEFT} {top}V{top + HEIGHT}H{right}"/>'
    for value in ticks(low, high, logarithmic):
        y = up(value)
        yield (
            f'<path class="log-grid" d="M{LEFT} {y:.1f}H{right}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{short(value)}</text>"
        )
    line = "L".join(f"{across(step):.1f} {up(value):.1f}" for step, value in points)
    yield f'<path class="log-curve" d="M{line}"/>'
    if len(points) <= 60:
        for step, value in points:
            yield f'<circle cx="{across(step):.1f}" cy="{up(value):.1f}" r="2.5"/>'
    for step, _ in bad:
        start = f"{across(step) - 4:.1f} {top + 4}"
        yield f'<path class="log-cross" d="M{start}l8 8m0-8l-8 8"/>'


def ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Two to five round numbers between the ends.

    Example:
        >>> ticks(0.1, 9.0, False), ticks(-1.0, 4.0, True)
        ([2.0, 4.0, 6.0, 8.0], [0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0])
    """
    span = high - low
    if logarithmic and span >= 2:
        step = math.ceil(span / 5)
        places = range(math.ceil(low), math.floor(high) + 1, step)
        return [10.0**place for place in places]
    if logarithmic:
        return [10.0**low, 10.0**high]
    rough = 10.0 ** math.floor(math.log10(span / 2))
    step = next(rough * k for k in (1, 2, 5, 10) if span / (rough * k) <= 5)
    first = math.ceil(low / step)
    return [k * step for k in range(first, math.floor(high / step) + 1)]


def short(value: float) -> str:
    """A number in at most seven letters.

    Example:
        >>> short(65536.0), short(0.1), short(2.5e20), short(-3.0)
        ('65,536', '0.1', '2.5e20', '-3')
    """
    if value and not 1e-3 <= abs(value) < 1e6:
        digits, power = (
            f"{value:.2g}".split("e")
            if "e" in f"{value:.2g}"
            else (f"{value:.1e}".split("e"))
        )
        return f"{digits}e{int(power)}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
