"""How long a sweep will take, from a few steps of each arm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sweeps.placement import gpus
from sweeps.plan import Plan
from sweeps.resources import Measured


def times(plan: Plan, at_once: int, costs: Mapping[str, Measured]) -> Iterator[str]:
    """Wall-clock time and GPU-hours of each phase, if no trial stops early; or that nothing is known."""
    seconds = {name: cost.seconds_per_sample for name, cost in costs.items()}
    unknown = [name for name, value in seconds.items() if value is None]
    if plan.horizon is None:
        yield "Time: not known, as the trainer does not say how many samples a trial takes"
    elif not costs:
        yield "Time: not known; --calibrate measures it"
    elif unknown or not at_once:
        yield f"Time: not known, as no step of {' and '.join(unknown) or 'a trial'} could be timed"
    else:
        trial_s = [plan.horizon * (seconds[arm.name] or 0.0) for arm in plan.arms]
        shares = [gpus(arm, costs) for arm in plan.arms]
        for phase, trials in _trials(plan):
            total_s = sum(n * each for n, each in zip(trials, trial_s, strict=True))
            gpu_s = sum(n * each * gpu for n, each, gpu in zip(trials, trial_s, shares, strict=True))
            cost = f", {gpu_s / 3600:.3g} GPU-hours" if gpu_s else ""
            yield f"Time of the {phase}: at most {_duration(total_s / at_once)}{cost}"
        yield "  (each trial as fast as one that runs alone; trials side by side may be slower)"


def _trials(plan: Plan) -> Iterator[tuple[str, list[int]]]:
    """The phases, and how many trials of each arm each has."""
    spec, draws = plan.spec, [plan.number_of_draws(arm) for arm in plan.arms]
    if spec.tune:
        yield "search", [number * len(spec.search.seeds) for number in draws]
        yield "evidence", [min(spec.search.keep, number) * len(spec.seeds) for number in draws]
    else:
        yield "sweep", [len(spec.seeds) for _ in draws]


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.3g} h"
