import json
import math
import random

import numpy as np
import pytest
import torch

from gradlib.chapter import base_seed, begin, claim, table


def test_begin_repeats_every_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADLIB_SEED", "7")

    def draws() -> tuple[float, float, float]:
        assert begin() == 7
        legacy = np.random.rand()  # noqa: NPY002
        return random.random(), float(legacy), float(torch.rand(()))

    assert draws() == draws()
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("text", ["-1", "two", "1.5", ""])
def test_base_seed_refuses_what_is_no_seed(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("GRADLIB_SEED", text)
    with pytest.raises(ValueError, match="GRADLIB_SEED: expected a whole number"):
        base_seed()


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (1.0, {"above": 1.0}),
        (2.0, {"below": 1.0}),
        (float("nan"), {"above": 0.0}),
        (float("inf"), {"above": 0.0, "below": 9.0}),
    ],
)
def test_claim_fails_outside_its_bounds(value: float, bounds: dict[str, float]) -> None:
    with pytest.raises(AssertionError, match="does not hold: it is so"):
        claim("it is so", value, **bounds)


def test_a_broken_run_lies_above_every_bound() -> None:
    claim("it explodes", math.inf, above=1.0)


@pytest.mark.parametrize("rival", [1.5, 3.0, math.inf])
def test_claim_fails_where_a_rival_passes(rival: float) -> None:
    with pytest.raises(AssertionError, match="cannot be told from a constant: it is"):
        claim("it is so", 2.0, above=1.0, rival={"a constant": rival, "none": 0.0})


@pytest.mark.parametrize("rival", [1.0, 3.0, math.inf, -math.inf, math.nan])
def test_claim_holds_where_its_rival_fails(rival: float, capsys) -> None:
    claim("it is so", 2.0, above=1.0, below=3.0, rival={"a constant": rival})
    told = f"holds: it is so (2, above 1 and below 3; not a constant: {rival:.4g})\n"
    assert capsys.readouterr().out == told


@pytest.mark.parametrize("bounds", [{}, {"above": 2.0, "below": 1.0}])
def test_claim_needs_bounds(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected bounds"):
        claim("nothing", 1.0, **bounds)


def test_claim_is_logged(tmp_path, monkeypatch, capsys) -> None:
    log = tmp_path / "claims.jsonl"
    monkeypatch.setenv("GRADLIB_CLAIMS", str(log))
    claim("it grows", 3.0, above=1.0, rival={"calm": 1.0})
    with pytest.raises(AssertionError):
        claim("it grows", 0.5, above=1.0)
    records = [json.loads(line) for line in log.read_text("utf8").splitlines()]
    assert [r["holds"] for r in records] == [True, False]
    assert [r["rivals"] for r in records] == [{"calm": 1.0}, {}]
    assert capsys.readouterr().out == "holds: it grows (3, above 1; not calm: 1)\n"


def test_table_is_markdown(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("gradlib.chapter.say", shown.append)
    table(["seed", "loss"], [[0, "2.3"]])
    assert shown == ["| seed | loss |\n| --- | --- |\n| 0 | 2.3 |"]
    with pytest.raises(ValueError, match="expected 2 values a row, got 1"):
        table(["seed", "loss"], [[0]])
