"""Settings that every test shares.

Hypothesis runs by one of two profiles. ``ci`` draws the same examples every time, so that a change
fails only by its own fault; ``dev``, the default at a desk, draws new ones and finds more. Both print
the blob by which a failure is repeated. ``HYPOTHESIS_PROFILE`` names one, else ``CI`` decides.
"""

import logging
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No deadline: on a machine shared with other work, the time of one example says nothing.
settings.register_profile("dev", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

# Where the tests were started in the background, Ctrl-C is ignored, here and in every child.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def same_logging_for_every_test() -> Iterator[None]:
    """Commands that run inside a test set up logging; the next test starts as if they had not."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
