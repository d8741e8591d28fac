"""How long the fuzz tests search: a bounded number of examples in the normal run, far more by a flag.

    inv test --filter fuzz                             # with all other tests, and in some seconds
    HYPOTHESIS_PROFILE=long inv test --filter fuzz     # fifty times as many examples: minutes to an hour

What is found is kept in .hypothesis/ and tried first the next time; hypothesis prints the example and how to try it.
"""

from __future__ import annotations

import os

import pytest

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
TIMES = 50
fuzz = [pytest.mark.fuzz, pytest.mark.timeout(4 * 3600 if LONG else 240)]  # the marker is a word that -k finds


def examples(usual: int) -> int:
    """How many examples a test tries that tries `usual` of them in the normal run."""
    return usual * TIMES if LONG else usual
