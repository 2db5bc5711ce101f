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


def test_a_box_of_spinning_up_counts_epochs():
    box = (
        "---------------------------------------\n"
        "|             Epoch |               {0} |\n"
        "|      AverageEpRet |           -21.5 |\n"
        "|             LossV |           {1:.3f} |\n"
        "---------------------------------------\n"
    )
    log = read_log("".join(box.format(r.step, r.loss) for r in run()))
    assert log.format == "box"
    assert log.history.recorded("lossv")[0] == [r.step for r in run()]


def test_a_box_of_the_old_baselines_counts_updates():
    box = (
        "---------------------------------\n"
        "| nupdates           | {0}      |\n"
        "| policy_entropy     | 0.69     |\n"
        "| total_timesteps    | {1}      |\n"
        "| value_loss         | {2:.3f}  |\n"
        "---------------------------------\n"
    )
    text = "".join(box.format(r.step, 80 * r.step, r.loss) for r in run())
    log = read_log(text)
    assert log.history.recorded("value_loss")[0] == [80 * r.step for r in run()]


def test_deepspeed_counts_what_it_skipped():
    text = "".join(
        f"[2001-01-01 10:00:00,000] [INFO] [logging.py:96:log_dist] [Rank 0] "
        f"step={r.step}, skipped={r.step // 2}, lr=[{r.rate!r}], mom=[(0.9, 0.999)]\n"
        for r in run()
    )
    log = read_log(text)
    assert log.format == "deepspeed"
    assert log.history["skipped"] == [r.step // 2 for r in run()]
    assert log.history["learning_rate"] == pytest.approx([r.rate for r in run()])


@pytest.mark.parametrize(
    ("line", "scales"),
    [
        ("OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 64, reducing to 32",
         (64, 32)),
        ("OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 64, but hysteresis is "
         "2. Reducing hysteresis to 1", (64, None)),
        ("Gradient overflow.  Skipping step, loss scaler 0 reducing loss scale to 32.0",
         (None, 32)),
        ("| WARNING: overflow detected, setting loss scale to: 32.0", (None, 32)),
        ("2001-01-01 10:00:00 | INFO | fairseq.trainer | NOTE: overflow detected, "
         "setting loss scale to: 32.0", (None, 32)),
    ],
)  # fmt: skip
def test_each_program_says_overflow_in_its_way(line, scales):
    event = read_log(f"{line}\n").events[0]
    assert (event.kind, event.before, event.value) == ("overflow", *scales)


def test_bars_of_a_launcher_are_one_line_a_refresh():
    bar = "{0}it [00:11,  5.82it/s, loss={1}, lr=0.001]"
    text = "\r".join(bar.format(k, 2.5 - 0.1 * k) for k in range(1, 6)) + "\n"
    assert len(read_log(text).history) == 5


ONE_LINE = [n for n, known in FORMATS.items() if "\n" not in known.line]


@pytest.mark.parametrize("name", [n for n in ONE_LINE if not FORMATS[n].before])
def test_a_prefix_changes_no_number(name):
    """Host and time, as launchers print them before each line."""
    text = write(name, run())
    plain = read_log(text).history
    prefixed = "".join(
        f"[host:0] 2001-01-01 10:00:00 {line}\n" for line in text.splitlines()
    )
    history = read_log(prefixed).history
    for column in ("step", *FORMATS[name].columns):
        column = MAIN.get(name, column) if column == "loss" else column
        assert history[column] == plain[column], column


@pytest.mark.parametrize("name", FORMATS)
def test_any_format_may_be_cut_anywhere_at_its_end(name):
    text = write(name, run())
    whole = read_log(text).history[MAIN.get(name.strip(), "loss")]
    last = text.rstrip("\n").rindex("\n") if "\n" in text.rstrip("\n") else 0
    for end in range(last + 1, len(text), 7):
        found = read_log(text[:end] + " ").history[MAIN.get(name.strip(), "loss")]
        assert found[: len(whole) - 1] == whole[:-1]
