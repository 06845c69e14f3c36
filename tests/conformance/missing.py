"""What a missing SDK means: a skip on a developer's machine, a failure where `WEIR_CONFORMANCE` is set."""

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it where every SDK has to be there."""
    if os.environ.get("WEIR_CONFORMANCE"):
        pytest.fail(reason)
    pytest.skip(reason)
