"""What all tests share.

``HYPOTHESIS_PROFILE`` chooses how many examples hypothesis draws: ``ci`` always draws
the same ones, so that a red test is red for everyone; ``fuzz`` draws many at random
and keeps those that failed in ``.hypothesis``; ``quick`` draws few, for mutants.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile(
    "ci", max_examples=200, deadline=None, derandomize=True, suppress_health_check=SLOW
)
settings.register_profile(
    "fuzz", max_examples=10_000, deadline=None, suppress_health_check=SLOW
)
settings.register_profile(
    "quick",
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=SLOW,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are read as they are where each read must wait for a device."""
    monkeypatch.setattr("gradlib.measure.tensors._IS_CPU", lambda tensor: False)


@pytest.fixture
def book_style() -> Iterator[None]:
    """Figures look as in the book; none is open afterwards."""
    import matplotlib.pyplot as plt

    from gradlib.plotting import use_style

    with plt.rc_context():
        use_style()
        yield
    plt.close("all")
