"""Diagnose the log of a training, where there are no model and no data to look at."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from os import PathLike

from gradlib.diagnosis.evidence.loss_curve import LossCurve
from gradlib.diagnosis.evidence.training_log import TrainingLog
from gradlib.diagnosis.report import Finding, Report
from gradlib.diagnosis.rules.history import HISTORY_RULES
from gradlib.diagnosis.rules.log.sign import BROKEN, NORMAL, UNCLEAR, Sign
from gradlib.diagnosis.rules.log.table import LOG_RULES
from gradlib.history import History
from gradlib.logs import Log, read_log

ENOUGH = 5
"""Finite records of a loss that can be called healthy: with four, a loss that falls by
chance is as likely as not."""

IN_A_ROW = 4
"""Records, each lower than the one before, that are enough: by chance, 1 in 24."""


BEHIND = 0.05
"""How far behind the rules on monitored runs those on any log are told: the former see
more."""


def diagnose_log(path_or_text: str | PathLike[str]) -> Report:
    """Say from a log alone whether a training is broken, since when, and why.

    A log shows no model, so several causes fit one curve: findings are ranked, and
    ``next_test`` names the test that tells them apart.

    Args:
        path_or_text: A path, or the log itself: text that holds a line break. Any
            training program's; see `gradlib.read_log`.

    Returns:
        A report: ``verdict`` is ``"broken"``, ``"healthy"`` (also: odd and as it
        should be, see ``remarks``) or ``"unclear"`` (too little to say).

    Raises:
        TypeError: neither a path nor text.
        FileNotFoundError: there is no such file.
        ValueError: a folder or a binary file, or no number of a training in it.

    Example:
        >>> lines = [f"step {k} loss {2.5 - 0.01 * k}" for k in range(20)]
        >>> report = diagnose_log("\\n".join([*lines, "step 20 loss nan"]))
        >>> report.verdict, report.cause, report.first_bad_step
        ('broken', 'fp16_overflow', 20)
    """
    return judge(read_log(path_or_text))


def judge(log: Log) -> Report:
    """The report on a log that was read, or on a recorded history.

    All rules on logs are asked, and where layers were monitored those on histories.

    Example:
        >>> log = read_log("".join(f"step {k} loss {9 - k}.5\\n" for k in range(9)))
        >>> judge(log).verdict
        'healthy'
    """
    evidence = TrainingLog(log)
    signs = [sign for rule in LOG_RULES if (sign := rule(evidence))]
    broken = [sign for sign in signs if sign.verdict == BROKEN]
    unclear = [sign for sign in signs if sign.verdict == UNCLEAR]
    normal = [sign for sign in signs if sign.verdict == NORMAL]
    findings = _merged(_ask_layers(log), _findings(broken))
    first = min((s.step for s in broken if s.step is not None), default=None)
    if findings:
        verdict = "broken"
        test = max(broken, key=_confidence).test if broken else ""
    elif unclear:
        verdict = "unclear"
        first = min((s.step for s in unclear if s.step is not None), default=None)
        test = unclear[0].test
    elif any(sign.assures for sign in normal) or _is_sound(evidence):
        verdict, test = "healthy", ""
    else:
        verdict = "unclear"
        test = f"Show at least {ENOUGH} records with a loss, from the start of the run."
    told = normal if broken else [*unclear, *normal]
    return Report(
        findings,
        _watched(evidence),
        {
            "counted in": f"{log.unit}s",
            "records": len(log.history),
            "format": log.format,
            "events": len(log.events),
            "lines not read": len(log.unread),
        },
        verdict=verdict,
        remarks=tuple(sign.symptom for sign in told),
        next_test=test,
        first_bad_step=None
        if first is None or verdict == "healthy"
        else log.shown(first),
    )


def _confidence(sign: Sign) -> float:
    return max((confidence for _, confidence in sign.causes), default=0.0)


def _findings(signs: list[Sign]) -> tuple[Finding, ...]:
    """One finding a cause, from the sign that speaks loudest for it."""
    found: dict[str, Finding] = {}
    for sign in signs:
        for cause, confidence in sign.causes:
            known = found.get(cause)
            if known is None or known.confidence < confidence:
                found[cause] = Finding(
                    cause, sign.layer, sign.symptom, dict(sign.evidence), confidence
                )
    return tuple(sorted(found.values(), key=lambda f: f.confidence, reverse=True))


def _ask_layers(log: Log) -> list[Finding]:
    """What the rules on histories say of a run whose layers were monitored."""
    history = log.history
    if "loss" not in history or not (log.format == "history" or _is_monitored(history)):
        return []
    _, losses = history.recorded("loss")
    finite = history.diverged_at is None and math.isfinite(losses[-1])
    curve = LossCurve(tuple(losses), finite=finite, recorded=True)
    return [finding for rule in HISTORY_RULES if (finding := rule(history, curve))]


def _is_monitored(history: History) -> bool:
    """Whether there are columns of single layers."""
    kinds = ("gradient_norm", "update_ratio", "activation_std")
    return any(history.layers(kind) for kind in kinds)


def _merged(found: list[Finding], others: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Findings of both kinds of rules, the likeliest first."""
    return tuple(
        sorted(
            [*found, *_added(found, others)],
            key=lambda finding: finding.confidence,
            reverse=True,
        )
    )


def _added(found: list[Finding], others: tuple[Finding, ...]) -> Iterator[Finding]:
    """Causes that no rule on histories has named, told after those that were."""
    limit = min((finding.confidence for finding in found), default=1.0 + BEHIND)
    known = {finding.cause for finding in found}
    for finding in others:
        if finding.cause not in known:
            yield replace(finding, confidence=min(finding.confidence, limit - BEHIND))


def _is_sound(evidence: TrainingLog) -> bool:
    """Enough finite records, and the loss is not higher at the end."""
    loss = evidence.loss
    if loss is None or loss.bad or len(loss) < IN_A_ROW:
        return False
    if len(loss) < ENOUGH:
        return all(after < before for before, after in pairwise(loss.values))
    noise = 3 * loss.jump
    return loss.end <= loss.start + max(noise, 0.1 * abs(loss.start))


def _watched(evidence: TrainingLog) -> str:
    log, loss = evidence.log, evidence.loss
    told = _count(len(log.history), "record")
    if log.lines:
        told += f" of {_count(log.lines, 'line')}, format {log.format}"
    if loss is not None and loss.finite.values:
        told += (
            f"; {loss.name} from {loss.finite.values[0]:.4g} to "
            f"{loss.finite.values[-1]:.4g} between "
            f"{evidence.at(loss.finite.steps[0])} and "
            f"{evidence.at(loss.finite.steps[-1])}"
        )
    if log.events:
        told += f"; {_count(len(log.events), 'event')}"
    if log.unread:
        told += f"; {_count(len(log.unread), 'line')} could not be read"
    return told + "."


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
