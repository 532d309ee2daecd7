"""When Ray's loop is left: after a signal each trial that runs may report once more, for a limited time."""

from __future__ import annotations

import pytest

from sweeps.execute.tuner import Interrupted, Leave


def test_after_a_signal_each_trial_that_runs_may_report_once_more() -> None:
    signals: list[int] = []
    leave = Leave(lambda: False, lambda: bool(signals), grace_s=60)
    for trial in ("a", "b"):
        leave.started(trial)
    leave.check()
    signals.append(15)
    leave.check()
    leave.started("c")  # it was on its way; it is not waited for
    leave.ended("a")
    leave.check()
    leave.ended("b")
    with pytest.raises(Interrupted):
        leave.check()


def test_the_wait_is_limited_and_limits_of_the_sweep_do_not_wait() -> None:
    leave = Leave(lambda: False, lambda: True, grace_s=0)
    leave.started("a")
    with pytest.raises(Interrupted):
        leave.check()
    leave = Leave(lambda: True, lambda: False, grace_s=60)
    leave.started("a")
    with pytest.raises(Interrupted):
        leave.check()


def test_an_error_in_an_adapter_is_raised_between_two_steps_the_first_one() -> None:
    leave = Leave(lambda: False, lambda: False, grace_s=60)
    for text in ("first", "second"):
        with leave.kept():
            raise ValueError(text)
    with pytest.raises(ValueError, match="first"):
        leave.check()
