"""How members are judged, whatever the scheduler: audits, ends, ties."""

from __future__ import annotations

import pytest

from sweeps.decide.judge import Judge
from tests.sweeps.schedulers.pools import STOPPING, judge_of, report, run


@pytest.mark.parametrize("kind", STOPPING)
class TestAudit:
    def curves(self) -> dict[str, list[float]]:
        return {f"m{index}": [1 - index / 50] * 10 for index in range(40)}

    def test_some_of_those_to_be_stopped_run_on_and_nobody_else_fares_otherwise(self, kind: str) -> None:
        plain, audited = judge_of(kind), judge_of(kind, audit=0.3)
        out = run(plain, self.curves())
        # What an audited member does afterwards must not matter: here it becomes the best of all.
        curves = {
            name: values[:1] + [9.0] * 9 if name in self._for_audit(audited, out) else values
            for name, values in self.curves().items()
        }
        stopped = run(audited, curves)
        assert set(audited.audited) and stopped
        assert stopped | set(audited.audited) == out
        assert 0.1 < len(audited.audited) / len(out) < 0.5

    @staticmethod
    def _for_audit(judge: Judge, names: set[str]) -> set[str]:
        return {name for name in names if judge._is_for_audit(name)}

    def test_the_same_salt_draws_the_same_ones(self, kind: str) -> None:
        spec = judge_of(kind, audit=0.5).spec
        one, again, other = (Judge(spec, salt) for salt in ("x", "x", "y"))
        for judge in (one, again, other):
            run(judge, self.curves())
        assert set(one.audited) == set(again.audited) != set(other.audited)

    def test_a_verdict_says_audit(self, kind: str) -> None:
        judge = judge_of(kind, audit=0.99)
        decisions = []
        for name, (value, *_) in self.curves().items():
            decisions += report(judge, "pool", name, {"samples": 10, "acc": value})
        told = [decision.member for decision in decisions if decision.action == "audit"]
        assert told and sorted(told) == sorted(judge.audited)  # each once


@pytest.mark.parametrize("kind", STOPPING)
def test_a_member_that_has_completed_is_not_stopped_by_who_comes_after(kind: str) -> None:
    judge = judge_of(kind)
    run(judge, {"a": [0.1] * 10})
    judge.completed("a")
    run(judge, {name: [0.9] * 10 for name in "bcdef"})
    assert "a" not in judge.stopped
    assert all(decision.member != "a" for decision in judge.stopped.values())


def test_a_tie_is_told() -> None:
    judge = judge_of("asha")
    decisions = [
        report(judge, "p", name, {"samples": 10, "acc": value})[-1]
        for name, value in (("a", 0.5), ("b", 0.5), ("c", 0.4), ("d", 0.5))
    ]
    assert [decision.tied for decision in decisions] == [0, 1, 0, 2]
