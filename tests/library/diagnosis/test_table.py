"""The order of rules: a conclusive finding ends the search and comes first."""

from types import SimpleNamespace
from typing import Any

import pytest

from gradlib.diagnosis.report import Finding
from gradlib.diagnosis.rules import table
from gradlib.diagnosis.rules.table import Rule, ask_rules


def rule(
    cause: str, confidence: float, *, conclusive: bool, guess: bool = False
) -> Rule:
    finding = Finding(cause, "all", "", {}, confidence, conclusive=conclusive)
    return Rule(cause, lambda _: finding, guess)


def causes(monkeypatch: pytest.MonkeyPatch, *rules: Rule) -> list[str]:
    monkeypatch.setattr(table, "RULES", list(rules))
    training: Any = SimpleNamespace(setup=SimpleNamespace(step=None))
    return [finding.cause for finding in ask_rules(training)]


def test_a_conclusive_finding_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    found = causes(
        monkeypatch,
        rule("vanishing", 0.5, conclusive=True),
        rule("dead_relu", 0.99, conclusive=True),
    )
    assert found == ["vanishing"]


def test_confidence_ends_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    found = causes(
        monkeypatch,
        rule("dead_relu", 0.99, conclusive=False),
        rule("vanishing", 0.5, conclusive=True),
    )
    assert found == ["vanishing", "dead_relu"]


def test_others_are_sorted_by_confidence(monkeypatch: pytest.MonkeyPatch) -> None:
    found = causes(
        monkeypatch,
        rule("dead_relu", 0.7, conclusive=False),
        rule("lr_too_high", 0.8, conclusive=False),
        rule("vanishing", 0.9, conclusive=False, guess=True),
    )
    assert found == ["lr_too_high", "dead_relu"]
