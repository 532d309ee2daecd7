"""Sequential evidence: which seeds are run next, and the looks at the arms' values that close comparisons.

The controller calls it. A *stage* is the plan, or an extension of it: its comparisons, each with its seeds,
and its share of the 5%. A look is taken once for all comparisons that have come to it, when all their seeds
have an outcome, and is one event of the journal: it is read after a restart, never recomputed. What is
planned and decided therefore depends on the values alone, not on the order in which trials end.
`analysis.inference.decision` decides.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from analysis.inference.decision import Comparison, decide
from analysis.inference.rule import Rule
from analysis.inference.samples import Pair
from analysis.inference.sequential import schedule_of
from sweeps.plan.model import Plan
from sweeps.record.journal import Event
from sweeps.record.state import LOST, SweepState, TrialState, member_of, read_state, seeds_up_to
from sweeps.space.errors import SpecError


@dataclass(frozen=True)
class Planned:
    """A comparison of a stage: the seeds of the arm, and those of the arm that it is compared with."""

    arm: str
    against: str
    seeds: tuple[int, ...]
    seeds_against: tuple[int, ...]

    @property
    def key(self) -> tuple[str, str]:
        return self.arm, self.against


class EvidenceLooks:
    """The looks of a sweep, read from its state, and taken when they are due. `append` is the journal's."""

    def __init__(self, plan: Plan, state: SweepState, append: Callable[..., Event]) -> None:
        self._plan = plan
        self._state = state
        self._append = append
        self._read_at = (-1, -1)  # the numbers of stages and looks of which the next three are made
        self._seeds: dict[str, list[int]] = {}
        self._waiting: dict[int, list[Planned]] = {}
        self._rows: list[Comparison] = []

    # Stages

    def begin(self) -> None:
        """Open the stage of the plan or, where the plan was extended and the stage before is over, that of
        the extension. Call it before evidence is planned."""
        if self._plan.rule is None or not self._plan.comparisons:
            return
        stages = self._state.stages
        if not stages:
            self._open([self._whole(arm, against) for arm, against in self._plan.comparisons])
            return
        self._read()
        is_extended = stages[-1]["hash"] != self._plan.hash
        if is_extended and not self._waiting and (planned := self._extension(stages[-1])):
            self._open(planned)

    @property
    def extension_is_idle(self) -> bool:
        """Whether the plan was extended, and the extension asks for nothing: each comparison is closed."""
        stages = self._state.stages
        if self._plan.rule is None or not stages or stages[-1]["hash"] == self._plan.hash:
            return False
        self._read()
        return not self._waiting and not self._extension(stages[-1])

    def _open(self, planned: Sequence[Planned]) -> None:
        rule, stages = self._rule, self._state.stages
        number, seeds = len(stages), max(len(each.seeds) for each in planned)
        looks, level = list(rule.looks) if not number and rule.looks else [seeds], rule.level(number)
        if rule.anytime and number:  # it goes on, at the part of the plan's level that is still in use
            looks = list(range(stages[-1]["looks"][-1] + 1, seeds + 1))
            level = stages[-1]["level"] * len(planned) / len(stages[-1]["comparisons"])
        self._append(
            "stage",
            number=number,
            level=level,
            looks=looks,
            comparisons=[asdict(each) for each in planned],
            hash=self._plan.hash,
            trained=self._trained,
        )

    @property
    def _trained(self) -> list[Any]:
        """What an extension may change in trials that have run: their length, and which draw is shown."""
        spec = self._plan.spec
        return [self._plan.length, spec.search.draws_per_arm, list(spec.search.seeds)]

    def _whole(self, arm: str, against: str) -> Planned:
        """A comparison over all seeds of the plan."""
        seeds = self._plan.evidence_seeds
        return Planned(arm, against, tuple(seeds(arm)), tuple(seeds(against)))

    def _extension(self, last: Event) -> list[Planned]:
        """What an extension asks: comparisons with new arms over all seeds; those that are open, over new
        seeds alone, as the old ones have been looked at; all of them over all seeds, where trials change."""
        if last["trained"] != self._trained:
            return [self._whole(arm, against) for arm, against in self._plan.comparisons]
        known = {each.arm_and_against: each for each in self._state.comparisons}
        earlier = {arm: set(seeds) for arm, seeds in self._all_seeds().items()}
        planned = []
        for arm, against in self._plan.comparisons:
            whole, row = self._whole(arm, against), known.get((arm, against))
            if row is not None and not self._rule.anytime:
                whole = Planned(
                    arm,
                    against,
                    tuple(seed for seed in whole.seeds if seed not in earlier[arm]),
                    tuple(seed for seed in whole.seeds_against if seed not in earlier[against]),
                )
            is_open = row is None or not row.closed
            if self._rule.anytime and (row is None or set(whole.seeds) <= earlier[arm]):
                continue  # an e-process is chosen before the first seed
            if is_open and not {arm, against} & self._out() and whole.seeds and whole.seeds_against:
                planned.append(whole)
        return planned

    def _all_seeds(self) -> dict[str, list[int]]:
        """The seeds of every arm in all stages."""
        found: dict[str, list[int]] = {}
        for stage in self._state.stages:
            for each in _planned(stage):
                found.setdefault(each.arm, []).extend(each.seeds)
                found.setdefault(each.against, []).extend(each.seeds_against)
        return found

    @property
    def _rule(self) -> Rule:
        assert self._plan.rule is not None
        return self._plan.rule

    # Seeds and looks

    def seeds(self, arm: str) -> list[int]:
        """The seeds of the arm's evidence that are planned by now: those of the looks so far, and of the next
        one while the arm is in an open comparison. All of them, where nothing is looked at."""
        if not self._state.stages:
            return self._plan.evidence_seeds(arm)
        self._read()
        return self._seeds.get(arm, [])

    def take(self) -> bool:
        """Take the next look if it is due. Returns whether it was; further trials may then be planned."""
        if not self._state.stages:
            return False
        self._read()
        if not self._waiting:
            self.begin()
            self._read()
        return any(self._take(look, planned) for look, planned in sorted(self._waiting.items()))

    def _read(self) -> None:
        """Read from the state what it says, if it has changed."""
        now = len(self._state.stages), len(self._state.looks)
        if now == self._read_at:
            return
        self._read_at, self._waiting = now, {}
        wanted: dict[str, set[int]] = {}
        for stage in self._state.stages:
            looks = [look for look in self._state.looks if look["stage"] == stage["number"]]
            rows = [Comparison(each.arm, each.against) for each in _planned(stage)]
            if looks:
                rows = [Comparison.read(row) for row in looks[-1]["comparisons"]]
            self._rows = rows
            is_current, out = stage is self._state.stages[-1], self._out()
            for each, row in zip(_planned(stage), rows, strict=True):
                needed = row.look
                if is_current and not row.closed and not {*each.key} & out and row.look < len(stage["looks"]):
                    self._waiting.setdefault(row.look, []).append(each)
                    needed += 1
                for arm, seeds in ((each.arm, each.seeds), (each.against, each.seeds_against)):
                    wanted.setdefault(arm, set()).update(seeds_up_to(needed, seeds, stage))
        for arm, chosen in wanted.items():
            self._seeds[arm] = [seed for seed in self._plan.evidence_seeds(arm) if seed in chosen]

    def _out(self) -> set[str]:
        """Under question best: the arms that are worse than some other one, which are out."""
        return self._state.beaten() if self._rule.question == "best" else set()

    def _take(self, look: int, planned: list[Planned]) -> bool:
        """Take look number `look` (0 is the first) of these comparisons, if all their seeds have an outcome.
        A comparison with a seed that was lost with its node waits until that one is run again."""
        stage, objective = self._state.stages[-1], self._plan.spec.objective
        if not all(self._have_ended(each, stage, look) for each in planned):
            return False
        metric = self._metric()
        pairs: dict[tuple[str, str], Pair] = {}
        looked_at: dict[str, set[int]] = {}
        for each in planned:
            a = self._values(each.arm, seeds_up_to(look + 1, each.seeds, stage), metric)
            b = self._values(each.against, seeds_up_to(look + 1, each.seeds_against, stage), metric)
            if LOST not in (*a.values(), *b.values()):
                maximise = objective.mode == "max"
                looked_at.setdefault(each.arm, set()).update(a)
                looked_at.setdefault(each.against, set()).update(b)
                pairs[each.key] = Pair(_numbers(a), _numbers(b), self._rule, maximise, self._plan.limits)
        if not pairs:
            return False
        schedule = schedule_of(stage["looks"], self._rule.anytime)
        held = {each.key for each in planned} - set(pairs)
        rows = [
            replace(row, note="open: a seed was lost with its node; --resume runs it again")
            if row.arm_and_against in held
            else row
            for row in decide(self._rows, pairs, self._rule, look, schedule, stage["level"])
        ]
        self._append(
            "look",
            stage=stage["number"],
            look=look + 1,
            seeds=stage["looks"][look],
            metric=metric,
            arms={arm: sorted(seen) for arm, seen in looked_at.items()},
            comparisons=[asdict(row) for row in rows],
        )
        return True

    def _metric(self) -> str:
        """The metric of the claims: the objective's counterpart on test, once some trial has reported it."""
        if self._state.looks:
            return str(self._state.looks[-1]["metric"])
        objective = self._plan.spec.objective.metric
        test = "test/" + objective.removeprefix("val/")
        reported = any(
            test in trial.last for trial in self._state.trials.values() if trial.phase == "evidence"
        )
        return test if objective.startswith("val/") and reported else objective

    def _have_ended(self, each: Planned, stage: Event, look: int) -> bool:
        """Whether all runs that the look needs of a comparison have an outcome."""
        sides = (each.arm, each.seeds), (each.against, each.seeds_against)
        return all(
            trials is not None and all(trial is not None and trial.ended for trial in trials)
            for arm, seeds in sides
            for seed in seeds_up_to(look + 1, seeds, stage)
            for trials in [self._trials(arm, seed)]
        )

    def _values(self, arm: str, seeds: Sequence[int], metric: str) -> dict[int, float | str]:
        """The arm's value at each seed: NaN where a run diverged or failed, LOST where it was lost with its
        node. All of them must have an outcome."""
        found: dict[int, float | str] = {}
        for seed in seeds:
            trials = self._trials(arm, seed) or []
            found[seed] = _value([trial for trial in trials if trial is not None], metric)
        return found

    def _trials(self, arm: str, seed: int) -> list[TrialState | None] | None:
        """The runs of the arm's kept draws at a seed, None for one that is not planned; None while no draw is
        selected."""
        draws = self._state.selected.get(arm) if self._plan.spec.tune else [0]
        return None if draws is None else [self._trial(arm, draw, seed) for draw in draws]

    def _trial(self, arm: str, draw: int, seed: int) -> TrialState | None:
        members = self._state.siblings.get(("evidence", member_of(arm, draw)), [])
        return next((trial for trial in members if trial.seed == seed), None)


def _value(trials: list[TrialState], metric: str) -> float | str:
    """The mean over an arm's kept draws at a seed."""
    if any(trial.is_lost for trial in trials):
        return LOST
    if not trials or any(trial.status != "completed" for trial in trials):
        return math.nan
    return statistics.fmean(trial.last.get(metric, math.nan) for trial in trials)


def _numbers(values: dict[int, float | str]) -> dict[int, float]:
    return {seed: float(value) for seed, value in values.items()}


def _planned(stage: Event) -> Iterator[Planned]:
    for each in stage["comparisons"]:
        yield Planned(each["arm"], each["against"], tuple(each["seeds"]), tuple(each["seeds_against"]))


def refuse_idle_extension(plan: Plan, journal: Path) -> None:
    """Raise SpecError if the plan extends the recorded sweep and no trial would follow from it."""

    def append(event: str, **fields: Any) -> Event:
        raise AssertionError("nothing is written here")

    if EvidenceLooks(plan, read_state(journal), append).extension_is_idle:
        raise SpecError(
            f"--extend: {journal.parent}: each comparison is settled, so that more seeds would get no trial: "
            f"add arms or draws, or launch a new sweep on fresh seeds, under another --name"
        )
