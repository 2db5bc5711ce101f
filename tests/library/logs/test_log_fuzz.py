"""Any text and any bytes: an answer or a clear error, in time."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written import FORMATS, run, write

from gradlib import diagnose_log, read_log
from gradlib.logs.lines import LONGEST

LOGS = {name: write(name, run()) for name in FORMATS}
PIECES = st.sampled_from(
    [
        *("nan", "-inf", "1e999", "1e-320", "65536", "9999999999999999999999", "-1"),
        *("{'", "'}", "'loss':", "|", "[", "]", ",", ",,,", '"', "%", "‘", "iter"),
        *("\r", "\n", "\x1b[31m", "\0", "overflow", "OVERFLOW!", "Epoch 1/9", "step:"),
    ]
)


def answer(source):
    """A report, or one of the errors that the docstring names."""
    try:
        report = diagnose_log(source)
    except (ValueError, FileNotFoundError):
        return None
    assert report.verdict in ("broken", "healthy", "unclear")
    assert bool(report.findings) == (report.verdict == "broken")
    json.dumps(report.to_dict(), allow_nan=False)
    assert str(report)
    return report


@given(content=st.binary(max_size=3000))
def test_random_bytes(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("logs") / "train.log"
    path.write_bytes(content)
    answer(path)


@given(text=st.text(max_size=500))
def test_random_text(text):
    answer(text + "\n")


@given(
    name=st.sampled_from(sorted(LOGS)),
    cuts=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 40), PIECES), min_size=1, max_size=8
    ),
)
def test_mutated_logs(name, cuts):
    text = LOGS[name]
    for place, width, piece in cuts:
        start = int(place * len(text))
        text = text[:start] + piece + text[start + width :]
    answer(text + "\n")


@given(
    names=st.lists(st.sampled_from(sorted(LOGS)), min_size=2, max_size=4),
    end=st.floats(0, 1),
)
def test_logs_of_several_programs_in_one_file(names, end):
    text = "".join(LOGS[name] for name in names)
    answer(text[: int(end * len(text))] + "\n")


@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 2**70), st.floats(allow_nan=True), st.floats(allow_nan=True)
        ),
        max_size=20,
    )
)
def test_any_numbers(rows):
    text = "".join(f"step: {s} loss: {x!r} grad_norm: {g!r}\n" for s, x, g in rows)
    if rows:
        assert answer(text) is not None
        assert len(read_log(text).history) <= len(rows)


@pytest.mark.parametrize(
    "line",
    [
        "a" * 300_000,
        "loss " * 60_000,
        "{'" * 150_000,
        "{" * 300_000,
        "loss: " + "1" * 300_000,
        "=" * 300_000,
        "| " * 150_000,
        "1/" * 150_000,
        "Epoch [" * 50_000,
        "nan" * 100_000,
        " " * 300_000 + "loss",
        "[" * 300_000 + "1]",
        "x" * (LONGEST + 10),
    ],
)
def test_a_long_line_is_never_a_hang(line):
    start = time.process_time()
    answer(f"{line}\nstep 1 loss 2.5\n")
    answer(f"{line[:60_000]}\nstep 1 loss 2.5\n")
    assert time.process_time() - start < 10
