"""The expected cost of trials before they run: their number, samples, FLOPs and time."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass

from analysis.format import duration
from sweeps.decide.placement import gpus, share_for
from sweeps.plan.model import Arm, Plan
from sweeps.plan.resources import Calibration

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Cost:
    """The cost of some trials if none stops early. NaN: not known."""

    trials: int = 0
    samples: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0  # if the trials run one after the other
    gpu_s: float = 0.0  # seconds x GPUs

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: int) -> Cost:
        return Cost(*(each * times for each in astuple(self)))

    @property
    def cells(self) -> tuple[str, ...]:
        """Trials, samples, FLOPs and time as text; '' for an unknown one."""
        time = "" if math.isnan(self.seconds) else duration(round(self.seconds))
        return (
            f"{self.trials:,}",
            "" if math.isnan(self.samples) else f"{self.samples:,.0f}",
            "" if math.isnan(self.flops) else f"{self.flops:.2g}",
            f"{time}, {self.gpu_s / 3600:.3g} GPU-hours" if time and self.gpu_s else time,
        )


def trial_cost(arm: Arm, measured: Mapping[str, Calibration]) -> Cost:
    """The cost of one trial of the arm; `measured` holds the arms that were calibrated."""
    samples = math.nan if arm.horizon is None else arm.horizon
    flops = math.nan if arm.flops_per_sample is None else arm.flops_per_sample * samples
    per_sample = measured[arm.name].seconds_per_sample if arm.name in measured else None
    seconds = math.nan if per_sample is None else per_sample * samples
    share = gpus(arm, {name: share_for(cost) for name, cost in measured.items()})
    return Cost(1, samples, flops, seconds, seconds * share if share else 0.0)


def total(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())


def kept_draws(plan: Plan) -> dict[str, int]:
    """How many draws of each arm are repeated as evidence."""
    spec = plan.spec
    return {
        arm.name: min(spec.search.keep, plan.number_of_draws(arm)) if spec.tune else 1 for arm in plan.arms
    }


def phases(plan: Plan) -> dict[str, dict[str, int]]:
    """The number of trials by phase and arm, if all run to the last look; a sweep that tunes nothing has one
    phase, "sweep"."""
    spec = plan.spec
    evidence = {arm: kept * len(plan.evidence_seeds(arm)) for arm, kept in kept_draws(plan).items()}
    if not spec.tune:
        return {"sweep": evidence}
    search = {arm.name: plan.number_of_draws(arm) * len(spec.search.seeds) for arm in plan.arms}
    return {"search": search, "evidence": evidence}


def wall_clock(kinds: Iterable[tuple[int, float, float]]) -> float:
    """Seconds until all trials have ended, if they start in order, each as soon as there is room for it.

    A kind is (number of trials, seconds of one, share of the whole machine that one takes).
    """
    running: list[tuple[float, float]] = []  # a heap of (end in seconds, share)
    now, free = 0.0, 1.0
    for number, seconds, share in kinds:
        for _ in range(number):
            while free < share - _ROUNDING:
                now, freed = heapq.heappop(running)
                free += freed
            heapq.heappush(running, (now + seconds, share))
            free -= share
    return max((end for end, _ in running), default=0.0)
