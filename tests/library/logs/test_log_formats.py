"""read_log(): every format, as its program writes it."""

import math

import pytest
from written import FORMATS, run, write

from gradlib.logs import GRAMMARS, read_log
from gradlib.logs.grammars import DICTIONARIES

COUNTS_LINES = {"hf_trainer_dict", "trl_dict"}
MAIN = {"ultralytics": "box_loss", "columns": "loss_tok2vec", "verl": "critic/vf_loss",
        "slash_pairs": "model_loss"}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_read(name):
    records = run()
    log = read_log(write(name, records))
    known = FORMATS[name]
    assert log.format == name.strip()
    assert log.unread == ()
    column = MAIN.get(name.strip(), "loss")
    steps, losses = log.history.recorded(column)
    assert losses == pytest.approx([r.loss for r in records], abs=10.0**-known.digits)
    for expected in known.columns:
        assert len(log.history.recorded(expected)[0]) == len(records), expected
    if name in COUNTS_LINES:
        assert (log.unit, steps) == ("line", list(range(1, len(records) + 1)))
    else:
        assert steps == [r.step for r in records]


@pytest.mark.parametrize("name", FORMATS)
def test_norms_and_rates_are_those_of_the_line(name):
    records = run()
    history = read_log(write(name, records)).history
    if "gradient_norm" in FORMATS[name].columns:
        assert history["gradient_norm"] == pytest.approx(
            [r.norm for r in records], abs=1e-3
        )
    if "learning_rate" in FORMATS[name].columns:
        assert history["learning_rate"] == pytest.approx(
            [r.rate for r in records], abs=1e-5
        )


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("spelled", ["nan", "-nan", "NaN", "inf", "-inf", "Infinity"])
def test_what_is_not_finite_is_read_in_any_spelling(name, spelled):
    text, broken = write(name, run()), run()[-1]
    for places in (6, 5, 4, 3):
        text = text.replace(f"{broken.loss:.{places}E}", spelled)
        text = text.replace(f"{broken.loss:.{places}f}", spelled)
    column = MAIN.get(name.strip(), "loss")
    values = read_log(text).history[column]
    assert not math.isfinite(values[-1])
    assert all(map(math.isfinite, values[:-1]))


def test_every_format_of_the_table_has_a_log_here():
    written = {name.strip() for name in FORMATS} | {"dictionary", "deepspeed"}
    assert {grammar.format for grammar in GRAMMARS} <= written
    assert {name for name, _ in DICTIONARIES} <= written


@pytest.mark.parametrize("grammar", GRAMMARS, ids=lambda g: f"{g.format}: {g.line}")
def test_the_sign_of_a_grammar_is_always_in_its_line(grammar):
    assert grammar.sign
    assert "<step>" not in grammar.sign
