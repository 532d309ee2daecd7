"""What the evidence will be able to tell, and what it costs: the end of `--dry-run`.

Each arm is compared with the baseline. How large a difference so many seeds find, `analysis` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.table import Table

from analysis.compare.power_estimate import PowerEstimate
from analysis.format import duration
from sweeps.observe.cost import Cost, phases, total, trial_cost, wall_clock
from sweeps.plan.model import Plan
from sweeps.plan.resources import Calibration

MORE_SEEDS = (1, 3, 5)
MOST_ROWS = 12  # arms whose costs are told one by one


def comparisons(plan: Plan) -> int:
    """That the sweep is to settle: each arm's with the baseline, where there will be evidence."""
    has_evidence = bool(plan.spec.tune) or not plan.spec.scheduler.stops
    return len(plan.arms) - 1 if has_evidence else 0


def forecast(plan: Plan, power: PowerEstimate, costs: Mapping[str, Calibration]) -> Iterator[str | Table]:
    """Lines and tables; none where nothing is to be settled. `costs` are the arms' where measured."""
    number, seeds = comparisons(plan), len(plan.spec.seeds)
    if not number:
        return
    evidence = phases(plan)["evidence" if plan.spec.tune else "sweep"]
    by_arm = {arm.name: trial_cost(plan, arm, costs) * evidence[arm.name] for arm in plan.arms}
    a_seed = total(trial_cost(plan, arm, costs) * (evidence[arm.name] // seeds) for arm in plan.arms)
    yield ""
    yield f"To settle: {number} comparison{'s' if number > 1 else ''} with {plan.baseline}, {power.rule}"
    yield power.spread
    if seeds < power.fewest_seeds:
        yield f"Too few seeds: no result can be significant; {power.fewest_seeds} would be needed."
    yield _by_seeds(seeds, power, a_seed, bool(costs))
    yield ""
    yield _by_comparison(plan, by_arm, bool(costs))
    yield ""


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
            cells = tuple(f"+{cell}" if cell else "" for cell in cells)
        name = f"{seeds + added} (+{added})" if added else str(seeds)
        table.add_row(name, power.smallest(seeds + added) or "none", *cells)
    return table


def _by_comparison(plan: Plan, by_arm: Mapping[str, Cost], timed: bool) -> Table:
    """What each comparison takes: the arm's evidence beside the baseline's, which all share."""
    table = _table("each comparison takes", "", timed)
    rows: dict[tuple[str, ...], list[str]] = {}  # cells -> the arms of which they hold
    for name, cost in by_arm.items():
        if name != plan.baseline:
            rows.setdefault(cost.cells, []).append(name)
    for cells, names in list(rows.items())[:MOST_ROWS]:
        label = ", ".join(names) if len(names) <= 3 else f"each of {len(names)} arms"
        table.add_row(label, *cells[: 4 if timed else 3])
    if len(rows) > MOST_ROWS:
        table.add_row(f"({len(rows) - MOST_ROWS} other arms)")
    table.add_row(f"{plan.baseline}, which all share", *by_arm[plan.baseline].cells[: 4 if timed else 3])
    return table


def times(plan: Plan, fits: Mapping[str, int], measured: Mapping[str, Calibration]) -> Iterator[str]:
    """Wall-clock time and GPU-hours of each phase, if no trial stops early; or that nothing is known.

    `fits` says how many trials of each arm run side by side.
    """
    of_one = {arm.name: trial_cost(plan, arm, measured) for arm in plan.arms}
    unknown = [name for name, cost in measured.items() if cost.seconds_per_sample is None]
    if plan.horizon is None:
        yield "Time: not known, as the trainer does not say how many samples a trial takes"
    elif not measured:
        yield "Time: not known; --calibrate measures it"
    elif unknown or not all(fits.values()):
        yield f"Time: not known, as no step of {' and '.join(unknown) or 'a trial'} could be timed"
    else:
        for phase, trials in phases(plan).items():
            wall_s = wall_clock((n, of_one[arm].seconds, 1 / fits[arm]) for arm, n in trials.items())
            gpu_s = total(of_one[arm] * n for arm, n in trials.items()).gpu_s
            cost = f", {gpu_s / 3600:.3g} GPU-hours" if gpu_s else ""
            yield f"Time of the {phase}: about {duration(round(wall_s))}{cost}"
        yield "  (if none stops early, and each is as fast as one that runs alone)"
