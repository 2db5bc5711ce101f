"""The benchmark of watching: its model, and its rows where a peer is missing."""

import math

import goals
import pytest
import watching
from watching import PEERS, LanguageModel, language_rows, plain_network_row


def test_the_language_model_has_76_parameters() -> None:
    assert len(list(LanguageModel().parameters())) == 76


def test_a_peer_that_is_missing_is_named_and_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "is_installed", lambda package: package == "gradlib")
    rows = language_rows(sets=1, rounds=1)
    missing = [row for row in rows if math.isnan(row.measured)]
    assert [row.what.split(",")[0] for row in missing] == list(PEERS)
    assert all("is not installed: not measured" in row.what for row in missing)
    assert {texts[1] for texts in goals.texts(missing)} == {""}
    measured = [row for row in rows if not math.isnan(row.measured)]
    assert [row.goal for row in measured] == ["at most 1.05", "at most 1.02"]
    assert all(0.5 < row.measured < 5 for row in measured)


def test_a_plain_network_is_compared_with_the_norms_of_torch() -> None:
    row = plain_network_row(16, sets=1, rounds=1)
    assert row.goal == "at most 1.05"
    assert "norms by torch" in row.what


def test_memory_of_a_short_record() -> None:
    assert -5 < watching.memory(steps=100, columns=40) < 20
