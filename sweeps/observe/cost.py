"""What trials cost: trials, samples, FLOPs and time, before any of them has run."""

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
    """Of some trials, if none stops early. NaN is what is not known."""

    trials: int = 0
    samples: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0  # one trial after the other
    gpu_s: float = 0.0  # seconds x GPUs

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: int) -> Cost:
        return Cost(*(each * times for each in astuple(self)))

    @property
    def cells(self) -> tuple[str, ...]:
        """Trials, samples, FLOPs and time as text; '' for what is not known."""
        time = "" if math.isnan(self.seconds) else duration(round(self.seconds))
        return (
            f"{self.trials:,}",
            "" if math.isnan(self.samples) else f"{self.samples:,.0f}",
            "" if math.isnan(self.flops) else f"{self.flops:.2g}",
            f"{time}, {self.gpu_s / 3600:.3g} GPU-hours" if time and self.gpu_s else time,
        )


def trial_cost(plan: Plan, arm: Arm, measured: Mapping[str, Calibration]) -> Cost:
    """Of one trial of the arm; `measured` are the arms of which a few steps were timed."""
    samples = math.nan if plan.horizon is None else plan.horizon
    flops = math.nan if arm.flops_per_sample is None else arm.flops_per_sample * samples
    pace = measured[arm.name].seconds_per_sample if arm.name in measured else None
    seconds = math.nan if pace is None else pace * samples
    share = gpus(arm, {name: share_for(cost) for name, cost in measured.items()})
    return Cost(1, samples, flops, seconds, seconds * share if share else 0.0)


def total(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())


def phases(plan: Plan) -> dict[str, dict[str, int]]:
    """By phase, and by arm, how many trials there are."""
    spec, draws = plan.spec, {arm.name: plan.number_of_draws(arm) for arm in plan.arms}
    if not spec.tune:
        return {"sweep": dict.fromkeys(draws, len(spec.seeds))}
    return {
        "search": {arm: number * len(spec.search.seeds) for arm, number in draws.items()},
        "evidence": {arm: min(spec.search.keep, number) * len(spec.seeds) for arm, number in draws.items()},
    }


def wall_clock(kinds: Iterable[tuple[int, float, float]]) -> float:
    """Seconds until all trials are done, one kind after the other, each trial begun as soon as there is room.

    A kind is how many trials, the seconds of one, and the share of the whole machine that one takes.
    """
    running: list[tuple[float, float]] = []  # when it ends, and its share
    now, free = 0.0, 1.0
    for number, seconds, share in kinds:
        for _ in range(number):
            while free < share - _ROUNDING:
                now, given_back = heapq.heappop(running)
                free += given_back
            heapq.heappush(running, (now + seconds, share))
            free -= share
    return max((end for end, _ in running), default=0.0)
