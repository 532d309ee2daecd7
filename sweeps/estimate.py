"""How long a sweep will take, from a few steps of each arm."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping

from sweeps.placement import gpus, share_for
from sweeps.plan import Plan
from sweeps.resources import Measured

_ROUNDING = 1e-9


def times(plan: Plan, fits: Mapping[str, int], costs: Mapping[str, Measured]) -> Iterator[str]:
    """Wall-clock time and GPU-hours of each phase, if no trial stops early; or that nothing is known."""
    seconds = {name: cost.seconds_per_sample for name, cost in costs.items()}
    unknown = [name for name, value in seconds.items() if value is None]
    if plan.horizon is None:
        yield "Time: not known, as the trainer does not say how many samples a trial takes"
    elif not costs:
        yield "Time: not known; --calibrate measures it"
    elif unknown or not all(fits.values()):
        yield f"Time: not known, as no step of {' and '.join(unknown) or 'a trial'} could be timed"
    else:
        trial_s = [plan.horizon * (seconds[arm.name] or 0.0) for arm in plan.arms]
        measured = {name: share_for(cost) for name, cost in costs.items()}
        shares = [gpus(arm, measured) for arm in plan.arms]
        rooms = [1 / fits[arm.name] for arm in plan.arms]
        for phase, trials in _trials(plan):
            wall_s = _side_by_side([*zip(trials, trial_s, rooms, strict=True)])
            gpu_s = sum(n * each * gpu for n, each, gpu in zip(trials, trial_s, shares, strict=True))
            cost = f", {gpu_s / 3600:.3g} GPU-hours" if gpu_s else ""
            yield f"Time of the {phase}: about {duration(wall_s)}{cost}"
        yield "  (if none stops early, and each is as fast as one that runs alone)"


def _side_by_side(kinds: list[tuple[int, float, float]]) -> float:
    """Seconds until all are done, one kind after the other, each trial begun as soon as there is room.
    A kind is how many trials, the seconds of one, and the share of all that is there that it takes."""
    running: list[tuple[float, float]] = []  # when it ends, and its share
    now, free = 0.0, 1.0
    for number, seconds, room in kinds:
        for _ in range(number):
            while free < room - _ROUNDING:
                now, given_back = heapq.heappop(running)
                free += given_back
            heapq.heappush(running, (now + seconds, room))
            free -= room
    return max((end for end, _ in running), default=0.0)


def _trials(plan: Plan) -> Iterator[tuple[str, list[int]]]:
    """The phases, and how many trials of each arm each has."""
    spec, draws = plan.spec, [plan.number_of_draws(arm) for arm in plan.arms]
    if spec.tune:
        yield "search", [number * len(spec.search.seeds) for number in draws]
        yield "evidence", [min(spec.search.keep, number) * len(spec.seeds) for number in draws]
    else:
        yield "sweep", [len(spec.seeds) for _ in draws]


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.3g} h"
