"""The plan of a sweep: its arms, draws and trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from analysis.format import UNITS
from analysis.inference.rule import Rule
from sweeps.plan.draws import drawn_for, known_draws
from sweeps.plan.evidence import has_evidence
from sweeps.plan.match import Matched, target_of
from sweeps.plan.trainer import Trainer
from sweeps.space.encoding import digest
from sweeps.space.load import Sources
from sweeps.space.schema import SweepSpec
from sweeps.space.values import Domain


@dataclass(frozen=True)
class Arm:
    """A combination of levels.

    `config` is the trial's config without tuned values; `horizon` is the number of samples of a whole trial,
    None if the trainer does not name its key, or if it is tuned; `tune` holds the domains that apply to the
    arm, whose `when` names only other tuned values; `sets` holds the keys that the levels set. `cpu` and
    `gpu` are those of one trial; `gpu` may be "auto". `samples_per_report` is None if the trainer does not
    say it. `units` are those of metrics that the trainer describes for the arm, `notes` what it says of the
    config in a preview, and `gpu_notes` what it says of a run on a GPU.
    """

    name: str
    levels: dict[str, Any]
    sets: frozenset[str]
    config: dict[str, Any]
    horizon: float | None
    tune: dict[str, Domain]
    num_params: int | None
    flops_per_sample: int | None
    cpu: float
    gpu: float | str
    effective_depth: int | None = None
    units: dict[str, str] = field(default_factory=dict)
    match: Matched | None = None
    notes: tuple[str, ...] = ()
    gpu_notes: tuple[str, ...] = ()
    samples_per_report: float | None = None


@dataclass(frozen=True)
class Draw:
    """One set of tuned values; `index` is its number within the arm."""

    index: int
    values: dict[str, Any]


@dataclass(frozen=True)
class TrialPlan:
    """A trial: an arm, a draw and a seed, with the config that follows. `phase` is "search" or "evidence"."""

    trial_id: str
    arm: str
    draw: int
    values: dict[str, Any]
    seed: int
    phase: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Everything that follows from a search space before the launch.

    `spec` is resolved: its paths are absolute, `--set` is in the base, and the scheduler's defaults and the
    objective's unit are filled in. `units` holds the units of metrics that are known, and always the
    objective's. `metrics` are the names that the trainer says it reports, () if it says none.
    `rule` decides the comparisons; None in a sweep that was recorded before rules were. Only the baseline
    runs `more_baseline_seeds`. Two plans with the same `identity` are the same sweep; see
    `sweeps.plan.identity`.
    """

    spec: SweepSpec
    sources: Sources
    trainer: Trainer
    arms: tuple[Arm, ...]
    units: dict[str, str] = field(default_factory=dict)
    rule: Rule | None = None
    more_baseline_seeds: tuple[int, ...] = ()
    identity: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        return str(self.sources.path)

    @property
    def baseline(self) -> str:
        """The name of the arm with each factor's first level; under one_at_a_time, of the base."""
        return self.arms[0].name

    @property
    def horizon(self) -> float | None:
        """The samples of a whole trial; None if they are not known, or differ by arm."""
        horizons = {arm.horizon for arm in self.arms}
        return horizons.pop() if len(horizons) == 1 else None

    @property
    def train_flops(self) -> float | None:
        """The training FLOPs that `match` gives every arm; None if it does not."""
        match, baseline = self.spec.match, self.arms[0].match
        if match is None or baseline is None or match.of != "train_flops":
            return None
        return target_of(match, baseline)

    @property
    def length(self) -> float | None:
        """How far a whole trial goes: its training FLOPs if `match` makes these equal, else the scheduler's
        max_t."""
        return self.spec.scheduler.max_t if self.train_flops is None else self.train_flops

    @property
    def limits(self) -> tuple[float, float]:
        """The objective's smallest and largest possible value."""
        return UNITS[self.units[self.spec.objective.metric]].limits

    def draws(self, arm: Arm) -> tuple[Draw, ...]:
        """The arm's draws that are known before the launch: none under TPE; one draw without values if the
        arm has nothing to tune."""
        return self._draws_by_arm[arm.name]

    @cached_property
    def _draws_by_arm(self) -> dict[str, tuple[Draw, ...]]:
        return {arm.name: self._draws_of(arm) for arm in self.arms}

    def _draws_of(self, arm: Arm) -> tuple[Draw, ...]:
        if not arm.tune:
            return (Draw(0, {}),)
        # Two draws that differ only in values that the arm does not use are one draw.
        may_be_equal = self.spec.search.algorithm == "grid" or any(d.when for d in arm.tune.values())
        draws: dict[str, Draw] = {}
        for index, values in enumerate(self.known_draws):
            used = drawn_for(arm.tune, values)
            draws.setdefault(repr(used) if may_be_equal else str(index), Draw(index, used))
        return tuple(draws.values())

    @cached_property
    def known_draws(self) -> list[dict[str, Any]]:
        """The draws with a value for every key of `tune`; each arm uses the values that apply to it."""
        search = self.spec.search
        if not self.spec.tune or search.algorithm == "tpe":
            return []
        return known_draws(search.algorithm, self.spec.tune, search.draws_per_arm)

    def number_of_draws(self, arm: Arm) -> int:
        """How many draws the arm will have; known before the launch under TPE too."""
        uses_tpe = arm.tune and self.spec.search.algorithm == "tpe"
        return self.spec.search.draws_per_arm if uses_tpe else len(self.draws(arm))

    @property
    def uses_gpus(self) -> bool:
        return any(arm.gpu for arm in self.arms)

    def first_trials(self) -> list[TrialPlan]:
        """The trials that are known before the launch: the first draw of every arm, then the second, and so
        on.

        They are search trials; in a sweep that neither tunes nor stops early, they are the evidence trials.
        """
        is_evidence = not self.spec.tune and has_evidence(self.spec)
        phase = "evidence" if is_evidence else "search"
        by_arm = [(arm, self.draws(arm)) for arm in self.arms]
        rounds = max(len(draws) for _, draws in by_arm)
        return [
            self.trial(arm, draws[index], seed, phase)
            for index in range(rounds)
            for arm, draws in by_arm
            if index < len(draws)
            for seed in (self.evidence_seeds(arm.name) if is_evidence else self.search_seeds)
        ]

    @property
    def search_seeds(self) -> list[int]:
        """The seeds of each draw in the search; in a sweep that tunes nothing, those of the evidence."""
        return self.spec.search.seeds if self.spec.tune else self.spec.seeds

    def evidence_seeds(self, arm: str) -> list[int]:
        """The seeds of an arm's evidence."""
        return [*self.spec.seeds, *(self.more_baseline_seeds if arm == self.baseline else ())]

    @property
    def all_seeds(self) -> list[int]:
        """The seeds of all trials, those of the evidence first."""
        return list(dict.fromkeys([*self.evidence_seeds(self.baseline), *self.search_seeds]))

    def settings(self, values: Mapping[str, Any], seed: int) -> list[tuple[str, Any]]:
        """The keys that a trial sets in its arm's config: the drawn values, and its seed at `seed_keys`."""
        return [*values.items(), *((key, seed) for key in self.spec.seed_keys)]

    @property
    def comparisons(self) -> list[tuple[str, str]]:
        """The comparisons that the rule decides look by look, as (arm, against): with the baseline, or of all
        pairs. None for a question that is answered once at the end, of other contrasts."""
        if self.rule is None or not has_evidence(self.spec) or not self.rule.is_of_arms:
            return []
        return self.rule.pairs([arm.name for arm in self.arms], self.baseline)

    def trial(self, arm: Arm, draw: Draw, seed: int, phase: str) -> TrialPlan:
        """The trial of an arm, a draw and a seed. Raises SpecError if the drawn values do not fit the
        config."""
        what = f"{self.source}: {arm.name}, draw {draw.index}"
        settings = self.settings(draw.values, seed)
        config = self.trainer.configure(arm.config, settings, what).model_dump(mode="json")
        return TrialPlan(
            trial_id(arm.name, draw.index, seed), arm.name, draw.index, draw.values, seed, phase, config
        )

    @cached_property
    def hash(self) -> str:
        """The hash of the identity: plans with the same hash are the same sweep."""
        return digest(self.identity)


def trial_id(arm: str, draw: int, seed: int) -> str:
    """The name of a trial."""
    return f"{arm}-d{draw}-s{seed}"
