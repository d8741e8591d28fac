"""The flag that makes the search long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ASK = "from tests.fuzzing import examples; print(examples(3))"


def asked(profile: str | None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "HYPOTHESIS_PROFILE"}
    env |= {} if profile is None else {"HYPOTHESIS_PROFILE": profile}
    return subprocess.run([sys.executable, "-c", ASK], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("profile", "told"), [(None, "3"), ("", "3"), ("long", "150")])
def test_the_search_is_long_by_a_flag(profile: str | None, told: str) -> None:
    assert asked(profile).stdout.strip() == told


@pytest.mark.parametrize("profile", ["lnog", "LONG", "ci", " "])
def test_a_profile_that_nobody_knows_is_refused(profile: str) -> None:
    done = asked(profile)
    assert done.returncode != 0
    assert f"HYPOTHESIS_PROFILE is {profile!r}, which is none: it is 'long', or not set" in done.stderr
