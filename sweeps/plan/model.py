"""What a search space comes to: arms, draws and trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sweeps.plan.draws import drawn_for, known_draws
from sweeps.plan.match import Matched
from sweeps.plan.trainer import Trainer
from sweeps.space.encoding import digest
from sweeps.space.load import Sources
from sweeps.space.schema import SweepSpec
from sweeps.space.values import Domain


@dataclass(frozen=True)
class Arm:
    """A combination of levels. `config` is whole but for what is tuned, `tune` what applies of that; `sets`
    are the keys that its levels set. A domain's `when` names other tuned values alone: what it says of the
    arm has been looked at. `gpu` may be "auto"."""

    name: str
    levels: dict[str, Any]
    sets: frozenset[str]
    config: dict[str, Any]
    tune: dict[str, Domain]
    num_params: int | None
    flops_per_sample: int | None
    cpu: float
    gpu: float | str
    effective_depth: int | None = None
    match: Matched | None = None


@dataclass(frozen=True)
class Draw:
    """One set of tuned values; `index` is its place among the arm's draws."""

    index: int
    values: dict[str, Any]


@dataclass(frozen=True)
class TrialPlan:
    """An arm, a draw and a seed."""

    trial_id: str
    arm: str
    draw: int
    values: dict[str, Any]
    seed: int
    phase: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """All that follows from a search space.

    `spec` is resolved: its paths are absolute, `--set` is in the base, and the scheduler's defaults are
    filled in. `horizon` is a whole trial's samples, where they are known. `identity` is what makes a sweep
    the same one: not its resources, its concurrency or where it is tracked.
    """

    spec: SweepSpec
    sources: Sources
    trainer: Trainer
    arms: tuple[Arm, ...]
    horizon: float | None
    identity: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        return str(self.sources.path)

    @property
    def baseline(self) -> str:
        """The arm of the first levels; for one_at_a_time, of the base."""
        return self.arms[0].name

    def draws(self, arm: Arm) -> tuple[Draw, ...]:
        """The arm's draws where they are known beforehand: none for TPE, one without values where there is
        nothing to tune."""
        return self._draws_by_arm[arm.name]

    @cached_property
    def _draws_by_arm(self) -> dict[str, tuple[Draw, ...]]:
        return {arm.name: self._draws_of(arm) for arm in self.arms}

    def _draws_of(self, arm: Arm) -> tuple[Draw, ...]:
        if not arm.tune:
            return (Draw(0, {}),)
        # Where something applies only to some draws, two of the others may be the same.
        may_be_equal = self.spec.search.algorithm == "grid" or any(d.when for d in arm.tune.values())
        found: dict[str, Draw] = {}
        for index, values in enumerate(self.known_draws):
            here = drawn_for(arm.tune, values)
            found.setdefault(repr(here) if may_be_equal else str(index), Draw(index, here))
        return tuple(found.values())

    @cached_property
    def known_draws(self) -> list[dict[str, Any]]:
        """Over all of `tune`; each arm takes from them what applies to it."""
        search = self.spec.search
        if not self.spec.tune or search.algorithm == "tpe":
            return []
        return known_draws(search.algorithm, self.spec.tune, search.draws_per_arm)

    def number_of_draws(self, arm: Arm) -> int:
        """Known beforehand even where the draws are not."""
        is_asked = arm.tune and self.spec.search.algorithm == "tpe"
        return self.spec.search.draws_per_arm if is_asked else len(self.draws(arm))

    @property
    def uses_gpus(self) -> bool:
        return any(arm.gpu for arm in self.arms)

    def first_trials(self) -> list[TrialPlan]:
        """The trials that are known before the launch: of the search those whose draws are, a draw of every
        arm after the other; with nothing to tune and nothing to stop, the evidence, which is all there is."""
        is_evidence = not self.spec.tune and not self.spec.scheduler.stops
        phase = "evidence" if is_evidence else "search"
        by_arm = [(arm, self.draws(arm)) for arm in self.arms]
        rounds = max(len(draws) for _, draws in by_arm)
        return [
            self.trial(arm, draws[index], seed, phase)
            for index in range(rounds)
            for arm, draws in by_arm
            if index < len(draws)
            for seed in self.search_seeds
        ]

    @property
    def search_seeds(self) -> list[int]:
        """The seeds of every draw of the search; with nothing to tune there is one list for all."""
        return self.spec.search.seeds if self.spec.tune else self.spec.seeds

    def evidence_trials(self, arm: Arm, draw: Draw) -> list[TrialPlan]:
        return [self.trial(arm, draw, seed, "evidence") for seed in self.spec.seeds]

    def trial(self, arm: Arm, draw: Draw, seed: int, phase: str) -> TrialPlan:
        """Raises SpecError where the drawn values do not fit the trainer's config."""
        what = f"{self.source}: {arm.name}, draw {draw.index}"
        config = self.trainer.configure(arm.config, draw.values.items(), what).model_dump(mode="json")
        trial_id = f"{arm.name}-d{draw.index}-s{seed}"
        return TrialPlan(trial_id, arm.name, draw.index, draw.values, seed, phase, config)

    @cached_property
    def hash(self) -> str:
        """Of the identity: sweeps with the same one are the same sweep."""
        return digest(self.identity)
