"""Settings of the tests that simulate."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def nothing_is_logged() -> Iterator[None]:
    """Records that a handler of the tests keeps hold errors, and by their tracebacks the memory of stores:
    a checker would say that it was not let go."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
