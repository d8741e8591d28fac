"""How long the fuzz tests search: a bounded number of examples in the normal run, far more by a flag.

    inv test --filter fuzz                             # with all other tests, and in some seconds
    HYPOTHESIS_PROFILE=long inv test --filter fuzz     # fifty times as many examples: half an hour of one core

What is found is kept in .hypothesis/ and tried first the next time; hypothesis prints the example and how to try it.
"""

from __future__ import annotations

import os
from typing import TypeVar

import pytest

T = TypeVar("T")


def is_long(profile: str) -> bool:
    """Whether this value of HYPOTHESIS_PROFILE asks for the long search. One that is spelled wrongly must not pass
    for it: a search of some seconds looks like one of an hour that has found nothing."""
    if profile not in ("", "long"):
        raise ValueError(f"HYPOTHESIS_PROFILE is {profile!r}, which is none: it is 'long', or not set")
    return profile == "long"


LONG = is_long(os.environ.get("HYPOTHESIS_PROFILE", ""))
TIMES = 50
# The marker is a word that -k finds. Making an example small that fails may take hypothesis five minutes.
fuzz = [pytest.mark.fuzz, pytest.mark.timeout(4 * 3600 if LONG else 600)]


def examples(usual: int) -> int:
    """How many examples a test tries that tries `usual` of them in the normal run."""
    return usual * TIMES if LONG else usual


def searching(test: T) -> T:
    """Marks one test, or a class of them, where most of the file's tests search for nothing."""
    for mark in fuzz:
        test = mark(test)
    return test
