"""Times of benchmarks are told in units that a machine's speed does not change."""

import pytest
import timing


def test_a_time_is_told_in_seconds_and_in_units() -> None:
    seconds, units = timing.time_rows("a build", 30.0, unit=2.0, bound=10)
    assert (seconds.what, seconds.measured, seconds.met) == ("a build, s", 30, None)
    assert (units.what, units.measured, units.met) == ("a build, units", 15, False)
    assert timing.time_rows("a build", 20.0, unit=2.0, bound=10)[1].met


def test_a_unit_grows_with_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "STEPS", 10)
    monkeypatch.setattr(timing, "ADDITIONS", 100_000)
    small = timing.unit()
    monkeypatch.setattr(timing, "ADDITIONS", 4_000_000)
    assert 0 < 2 * small < timing.unit()
