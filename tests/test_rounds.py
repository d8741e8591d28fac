"""When probes are asked again, and that many timers at once let the loop turn to other things."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ops.watch.rounds import following

EVERY = st.sampled_from([0.5, 1.0, 1.5, 2.0, 5.0, 7.3, 30.0, 300.0])
PLACE = st.floats(0, 1, exclude_max=True)
COUNT = st.sampled_from([1, 5, 9, 10, 100, 1000])


@given(st.floats(0, 1e7), EVERY, PLACE, COUNT)
def test_it_is_asked_again_within_its_period_and_from_then_on_once_a_period(
    started: float, every: float, place: float, count: int
) -> None:
    """Law 8 counts on the first."""
    again = following(started, every, place, count)
    assert -1e-6 < again - started <= every + 1e-6
    late = 0.003  # a loop is never early, and always a little late
    assert abs(following(again + late, every, place, count) - again - every) < 1e-6 * max(1.0, every)


def test_those_who_were_held_up_together_do_not_stay_together() -> None:
    moments = Counter(following(100.0, 2.0, index / 1000, 1000) for index in range(1000))
    assert max(moments.values()) <= 10
    assert max(moments) - min(moments) > 1.9


def test_a_few_services_are_asked_together_and_on_whole_seconds() -> None:
    assert {following(100.3, 5.0, index / 5, 5) for index in range(5)} == {105.0}
