"""Which tests the benchmark of the check calls slow, and why."""

from book import ROOT
from check import REASONS, slow_tests

SAID = """\
12.50s call     tests/build/test_faults.py::test_a[x]
11.00s setup    tests/build/test_faults.py::test_b
9.00s call     tests/tools/test_new.py::test_c
4.00s call     tests/tools/test_new.py::test_d
30.00s call     chapters/causes.ipynb::Cell 12
"""


def test_slow_tests_are_listed_by_file_with_a_reason() -> None:
    first, second, last = slow_tests(SAID, 1.0)
    assert first.what.startswith("tests/build/test_faults.py, 2 slow (builds")
    assert first.measured == 12.5
    assert "why?" in second.what
    assert (last.measured, last.met) == (1, False)


def test_a_slow_machine_does_not_make_tests_slow() -> None:
    (last,) = slow_tests(SAID, 3.0)
    assert last.met


def test_reasons_are_of_files_that_exist() -> None:
    assert all((ROOT / place).exists() for place in REASONS)
