"""What the evidence will be able to tell, and what it costs: the end of `--dry-run`.

Each arm is compared with the baseline. How large a difference so many seeds find, `analysis` says.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.table import Table

from analysis.compare.power_estimate import PowerEstimate
from sweeps.decide.placement import gpus, share_for
from sweeps.plan.model import Plan
from sweeps.plan.resources import Calibration

MORE_SEEDS = (1, 3, 5)
MOST_ROWS = 12  # arms whose costs are told one by one


@dataclass(frozen=True)
class Cost:
    """Of some trials. None is what is not known."""

    trials: int = 0
    samples: float | None = 0.0
    flops: float | None = 0.0
    seconds: float | None = 0.0  # one trial after the other
    gpu_s: float | None = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.trials + other.trials,
            _sum(self.samples, other.samples),
            _sum(self.flops, other.flops),
            _sum(self.seconds, other.seconds),
            _sum(self.gpu_s, other.gpu_s),
        )

    def __mul__(self, times: int) -> Cost:
        rest = (self.samples, self.flops, self.seconds, self.gpu_s)
        return Cost(self.trials * times, *(None if each is None else each * times for each in rest))

    @property
    def cells(self) -> list[str]:
        """Trials, samples, FLOPs and time."""
        time = "" if self.seconds is None else duration(self.seconds)
        return [
            f"{self.trials:,}",
            "" if self.samples is None else f"{self.samples:,.0f}",
            "" if self.flops is None else f"{self.flops:.2g}",
            f"{time}, {self.gpu_s / 3600:.3g} GPU-hours" if time and self.gpu_s else time,
        ]


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def comparisons(plan: Plan) -> int:
    """That the sweep is to settle: each arm's with the baseline, where there will be evidence."""
    has_evidence = bool(plan.spec.tune) or plan.spec.scheduler.kind == "fifo"
    return len(plan.arms) - 1 if has_evidence else 0


def forecast(plan: Plan, power: PowerEstimate, costs: Mapping[str, Calibration]) -> Iterator[str | Table]:
    """Lines and tables; none where nothing is to be settled. `costs` are the arms' where measured."""
    number, seeds = comparisons(plan), len(plan.spec.seeds)
    if not number:
        return
    a_seed = {arm.name: _cost_of_a_seed(plan, index, costs) for index, arm in enumerate(plan.arms)}
    yield ""
    yield f"To settle: {number} comparison{'s' if number > 1 else ''} with {plan.baseline}, {power.rule}"
    yield power.spread
    if seeds < power.fewest_seeds:
        yield f"Too few seeds: no result can be significant; {power.fewest_seeds} would be needed."
    yield _by_seeds(seeds, power, sum(a_seed.values(), Cost()), bool(costs))
    yield ""
    yield _by_comparison(plan, {name: cost * seeds for name, cost in a_seed.items()}, bool(costs))
    yield ""


def _cost_of_a_seed(plan: Plan, index: int, costs: Mapping[str, Calibration]) -> Cost:
    """Of one arm's evidence, on one seed."""
    arm = plan.arms[index]
    trials = min(plan.spec.search.keep, plan.number_of_draws(arm)) if plan.spec.tune else 1
    if plan.horizon is None:
        return Cost(trials, None, None, None, None)
    flops = None if arm.flops_per_sample is None else arm.flops_per_sample * plan.horizon
    pace = costs[arm.name].seconds_per_sample if arm.name in costs else None
    seconds = None if pace is None else pace * plan.horizon
    share = gpus(arm, {name: share_for(cost) for name, cost in costs.items()})
    gpu_s = None if seconds is None else seconds * share
    return Cost(1, plan.horizon, flops, seconds, gpu_s) * trials


def _table(first: str, second: str, timed: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    if second:
        table.add_column(second, justify="right")
    for heading in ("trials", "samples", "FLOPs", *(["time of the trials"] if timed else [])):
        table.add_column(heading, justify="right")
    return table


def _by_seeds(seeds: int, power: PowerEstimate, a_seed: Cost, timed: bool) -> Table:
    """What the seeds given find, and what more of them would add."""
    table = _table("seeds", "smallest difference found (80% power)", timed)
    more = {0, *MORE_SEEDS, max(0, power.fewest_seeds - seeds)}
    for added in sorted(more):
        cells = (a_seed * (added or seeds)).cells[: 4 if timed else 3]
        if added:
            cells = [f"+{cell}" if cell else "" for cell in cells]
        name = f"{seeds + added} (+{added})" if added else str(seeds)
        table.add_row(name, power.smallest(seeds + added) or "none", *cells)
    return table


def _by_comparison(plan: Plan, by_arm: Mapping[str, Cost], timed: bool) -> Table:
    """What each comparison takes: the arm's evidence beside the baseline's, which all share."""
    table = _table("each comparison takes", "", timed)
    rows: dict[Cost, list[str]] = {}
    for name, cost in by_arm.items():
        if name != plan.baseline:
            rows.setdefault(cost, []).append(name)
    for cost, names in list(rows.items())[:MOST_ROWS]:
        label = ", ".join(names) if len(names) <= 3 else f"each of {len(names)} arms"
        table.add_row(label, *cost.cells[: 4 if timed else 3])
    if len(rows) > MOST_ROWS:
        table.add_row(f"({len(rows) - MOST_ROWS} other arms)")
    table.add_row(f"{plan.baseline}, which all share", *by_arm[plan.baseline].cells[: 4 if timed else 3])
    return table


_ROUNDING = 1e-9


def times(
    plan: Plan, concurrency_by_arm: Mapping[str, int], costs: Mapping[str, Calibration]
) -> Iterator[str]:
    """Wall-clock time and GPU-hours of each phase, if no trial stops early; or that nothing is known."""
    seconds = {name: cost.seconds_per_sample for name, cost in costs.items()}
    unknown = [name for name, value in seconds.items() if value is None]
    if plan.horizon is None:
        yield "Time: not known, as the trainer does not say how many samples a trial takes"
    elif not costs:
        yield "Time: not known; --calibrate measures it"
    elif unknown or not all(concurrency_by_arm.values()):
        yield f"Time: not known, as no step of {' and '.join(unknown) or 'a trial'} could be timed"
    else:
        trial_s = [plan.horizon * (seconds[arm.name] or 0.0) for arm in plan.arms]
        measured = {name: share_for(cost) for name, cost in costs.items()}
        shares = [gpus(arm, measured) for arm in plan.arms]
        rooms = [1 / concurrency_by_arm[arm.name] for arm in plan.arms]
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
