"""What the tests of the library share."""

import pytest
from torch.distributions import Distribution


@pytest.fixture(autouse=True)
def distributions_check_their_parameters() -> None:
    """As in a fresh process: the first use of torch.compile ends it for all others."""
    Distribution.set_default_validate_args(True)
