"""What a diagnosis says: causes, findings and the report that a reader gets."""

import math
import textwrap
from dataclasses import dataclass, field
from html import escape
from typing import Any

from gradlib.diagnosis.causes import CAUSES, address_of
from gradlib.tables import html_table

# Confidence from which a finding is called certain, or likely.
CERTAIN = 0.9
LIKELY = 0.7
_WIDTH = 76


@dataclass(frozen=True)
class Finding:
    """One suspected cause, with the numbers that speak for it.

    Args:
        cause: A key of :data:`CAUSES`.
        layer: Where: a module or parameter, ``"data"``, ``"loss"``, ``"loop"``
            (the code around the model), ``"all"`` or ``"global"``.
        symptom: What was seen, in a sentence.
        evidence: Name -> number (or short text).
        confidence: From 0 to 1. Runs with a change speak louder than what was only
            watched.
        conclusive: The search ends here. Not so where the symptom also follows from
            other causes: units that die on the way, a smaller learning rate that
            helps. Those findings come after the conclusive one, if there is any.
        fix: What to do; by default the cure of the cause.
        chapter: Where the book explains it.
    """

    cause: str
    layer: str
    symptom: str
    evidence: dict[str, Any] = field(default_factory=dict)
    confidence: float = 0.9
    conclusive: bool = True
    fix: str = ""
    chapter: str = ""

    def __post_init__(self) -> None:
        if self.cause not in CAUSES:
            raise ValueError(
                f"cause: expected one of {', '.join(CAUSES)}; got {self.cause!r}"
            )
        object.__setattr__(self, "fix", self.fix or CAUSES[self.cause].fix)
        object.__setattr__(self, "chapter", self.chapter or CAUSES[self.cause].chapter)

    @property
    def certainty(self) -> str:
        """``"certain"``, ``"likely"`` or ``"possible"``, by the confidence."""
        words = ("certain", "likely", "possible")
        limits = (CERTAIN, LIKELY, 0.0)
        return next(
            w for w, low in zip(words, limits, strict=True) if self.confidence >= low
        )

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain values, for a log."""
        return {
            "cause": self.cause,
            "layer": self.layer,
            "symptom": self.symptom,
            "evidence": {key: _plain(value) for key, value in self.evidence.items()},
            "confidence": round(self.confidence, 2),
            "certainty": self.certainty,
            "fix": self.fix,
            "chapter": self.chapter,
        }


@dataclass(frozen=True, repr=False)
class Report:
    """The answer of :func:`gradlib.diagnose`; print it to read it.

    Args:
        findings: Most likely first; empty if the training is healthy.
        watched: What was watched, in a sentence.
        measurements: Numbers about the run as a whole.
        verdict: ``"broken"``, ``"healthy"`` or ``"unclear"``; by default broken where
            there is a finding, and healthy where there is none.
        remarks: What looks odd, each with the reason why it is normal or undecided.
        next_test: The one test that would tell the causes apart.
        first_bad_step: Step (or epoch, or line) of the first bad record; of the first
            odd one where the verdict is unclear; or None.
        reasons: Why the training is called healthy, or why nothing can be said.
    """

    findings: tuple[Finding, ...] = ()
    watched: str = ""
    measurements: dict[str, Any] = field(default_factory=dict)
    verdict: str = ""
    remarks: tuple[str, ...] = ()
    next_test: str = ""
    first_bad_step: int | None = None
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.verdict:
            verdict = "broken" if self.findings else "healthy"
            object.__setattr__(self, "verdict", verdict)

    @property
    def cause(self) -> str:
        """The cause of the first finding; else ``"healthy"`` or ``"unknown"``."""
        if self.findings:
            return self.findings[0].cause
        return "healthy" if self.verdict == "healthy" else "unknown"

    @property
    def first_is(self) -> str:
        """What `first_bad_step` names: ``"bad"``, or ``"odd"`` where nothing is known
        to be bad."""
        return "bad" if self.verdict == "broken" else "odd"

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for a log."""
        return {
            "verdict": self.verdict,
            "cause": self.cause,
            "first_bad_step": self.first_bad_step,
            "watched": self.watched,
            "reasons": list(self.reasons),
            "measurements": {k: _plain(v) for k, v in self.measurements.items()},
            "findings": [finding.to_dict() for finding in self.findings],
            "remarks": list(self.remarks),
            "next_test": self.next_test,
        }

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return _page(self)

    def __str__(self) -> str:
        title = _title(self)
        told = f"Diagnosis: {self.cause} ({title})"
        lines = textwrap.wrap(told, _WIDTH, subsequent_indent=" " * 11)
        if self.first_bad_step is not None:
            lines += _paragraph(
                f"First {self.first_is}", f"{_unit(self)} {self.first_bad_step}"
            )
        lines += _paragraph("Watched", self.watched)
        for reason in self.reasons:
            lines += _paragraph("Because", reason)
        told = ""
        for rank, finding in enumerate(self.findings, 1):
            sure = f"{finding.certainty} ({100 * finding.confidence:.0f} %)"
            lines += ["", f"{rank}. {finding.cause} in {finding.layer}: {sure}"]
            repeated, told = finding.symptom == told, finding.symptom
            lines += _paragraph("Symptom", "the same." if repeated else told)
            lines += _paragraph("Cause", CAUSES[finding.cause].title + ".")
            if not repeated:
                lines += _paragraph("Evidence", _listed(finding.evidence))
            lines += _paragraph("Fix", finding.fix)
            lines.append(f"   {'Read:':10} {address_of(finding.chapter)}")
        for remark in self.remarks:
            lines += ["", *_paragraph("Remark", remark)]
        if self.next_test:
            lines += ["", *_paragraph("Next", self.next_test)]
        return "\n".join(lines)


def _page(report: Report) -> str:
    """The report for a notebook."""
    title = _title(report)
    parts = [
        f"<p><b>{escape(report.verdict)}: {escape(report.cause)}</b> ({escape(title)})"
    ]
    if report.first_bad_step is not None:
        parts.append(
            f", first {report.first_is} {_unit(report)} {report.first_bad_step}"
        )
    parts.append(f"</p><p>{escape(report.watched)}</p>")
    parts += [f"<p>{escape(reason)}</p>" for reason in report.reasons]
    if report.findings:
        header = ["cause", "where", "how sure", "symptom", "fix", "chapter"]
        rows = [
            [f.cause, f.layer, f.certainty, f.symptom, f.fix, address_of(f.chapter)]
            for f in report.findings
        ]
        parts.append(html_table(header, rows))
    parts += [f"<p>{escape(remark)}</p>" for remark in report.remarks]
    if report.next_test:
        parts.append(f"<p><b>Next test:</b> {escape(report.next_test)}</p>")
    return "".join(parts)


def _title(report: Report) -> str:
    if report.cause in CAUSES:
        return CAUSES[report.cause].title
    broken = report.verdict == "broken"
    return "it fails, and no rule says why" if broken else "too little to say"


def _unit(report: Report) -> str:
    """What the first bad step counts."""
    return str(report.measurements.get("counted in", "steps")).removesuffix("s")


def _listed(evidence: dict[str, Any]) -> str:
    return "; ".join(f"{name}: {_short(value)}" for name, value in evidence.items())


def _paragraph(label: str, text: str) -> list[str]:
    if not text:
        return []
    start = f"   {label + ':':10} "
    return textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=" " * 14)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)


def layer_of(parameter: str) -> str:
    """Module of a parameter: ``"fc1"`` for ``"fc1.weight"``, ``"U"`` for ``"U"``."""
    owner, _, name = parameter.rpartition(".")
    return owner or name
