"""The end of the preview: the differences that the evidence can detect, and what trials cost.

The smallest detectable difference is computed in `analysis`, for one look at all seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from analysis.format import duration
from sweeps.observe.cost import Cost, kept_draws, phases, total, trial_cost, wall_clock
from sweeps.observe.rule import time_of_looks
from sweeps.observe.simulated import Course
from sweeps.plan.evidence import has_evidence
from sweeps.plan.model import Plan
from sweeps.plan.resources import Calibration

if TYPE_CHECKING:  # it loads pandas, for which a plan need not wait
    from analysis.compare.power_estimate import PowerEstimate

MORE_SEEDS = (1, 3, 5)
MAX_ROWS = 12  # of the table of comparisons


def comparisons(plan: Plan) -> int:
    """The number of comparisons of two arms that the evidence is to settle; 0 if it settles none."""
    if plan.rule is None:  # recorded before rules were
        return len(plan.arms) - 1 if has_evidence(plan.spec) else 0
    return len(plan.comparisons)


def forecast(plan: Plan, power: PowerEstimate, costs: Mapping[str, Calibration]) -> Iterator[str | Table]:
    """Lines and tables on the comparisons; none if there are no comparisons. `costs` holds measured arms."""
    number, seeds = comparisons(plan), len(plan.spec.seeds)
    if not number:
        return
    evidence, kept = phases(plan)["evidence" if plan.spec.tune else "sweep"], kept_draws(plan)
    by_arm = {arm.name: trial_cost(arm, costs) * evidence[arm.name] for arm in plan.arms}
    per_seed = total(trial_cost(arm, costs) * kept[arm.name] for arm in plan.arms)
    yield ""
    of_pairs = plan.rule is not None and plan.rule.question == "best"
    which = "of all pairs" if of_pairs else f"with {plan.baseline}"
    yield f"To settle: {number} comparison{'s' if number > 1 else ''} {which}, {power.rule}"
    yield power.spread
    if seeds < power.fewest_seeds:
        yield f"Too few seeds: no result can be significant; {power.fewest_seeds} would be needed."
    yield _by_seeds(seeds, power, total(by_arm.values()), per_seed, bool(costs))
    yield ""
    yield _by_comparison(by_arm, "" if of_pairs else plan.baseline, bool(costs))
    yield ""


def _table(first: str, second: str, timed: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    if second:
        table.add_column(second, justify="right")
    for heading in ("trials", "samples", "FLOPs", *(["time of the trials"] if timed else [])):
        table.add_column(heading, justify="right")
    return table


def _by_seeds(seeds: int, power: PowerEstimate, all_of_them: Cost, per_seed: Cost, timed: bool) -> Table:
    """The smallest difference found with the space's seeds, and with more of them, and the cost."""
    table = _table("seeds", "smallest difference found (80% power)", timed)
    more = {0, *MORE_SEEDS, max(0, power.fewest_seeds - seeds)}
    for added in sorted(more):
        cells = (per_seed * added if added else all_of_them).cells[: 4 if timed else 3]
        if added:
            cells = tuple(f"+{cell}" if cell else "" for cell in cells)
        name = f"{seeds + added} (+{added})" if added else str(seeds)
        table.add_row(name, power.smallest(seeds + added) or "none", *cells)
    return table


def _by_comparison(by_arm: Mapping[str, Cost], shared: str, timed: bool) -> Table:
    """The cost of each comparison: that of the arm's evidence trials, if it runs to the last look. `shared`
    is the arm that all are compared with; '' if all pairs are."""
    table = _table("each comparison takes" if shared else "each arm takes", "", timed)
    rows: dict[tuple[str, ...], list[str]] = {}  # cells -> the arms with these costs
    for name, cost in by_arm.items():
        if name != shared:
            rows.setdefault(cost.cells, []).append(name)
    for cells, names in list(rows.items())[:MAX_ROWS]:
        label = ", ".join(names) if len(names) <= 3 else f"each of {len(names)} arms"
        table.add_row(label, *cells[: 4 if timed else 3])
    if len(rows) > MAX_ROWS:
        table.add_row(f"({len(rows) - MAX_ROWS} other arms)")
    if shared:
        table.add_row(f"{shared}, which all share", *by_arm[shared].cells[: 4 if timed else 3])
    return table


def times(
    plan: Plan,
    concurrency: Mapping[str, int],
    measured: Mapping[str, Calibration],
    courses: Sequence[Course] = (),
) -> Iterator[str]:
    """Lines with the wall-clock time and GPU-hours of each phase if no trial stops early and without looks,
    and of the evidence with looks, or why they are unknown.

    `concurrency` is how many trials of each arm can run at once; `courses` are the evidence as simulated.
    """
    costs = {arm.name: trial_cost(arm, measured) for arm in plan.arms}
    untimed = [name for name, cost in measured.items() if cost.seconds_per_sample is None]
    if any(arm.horizon is None for arm in plan.arms):
        yield "Time: not known, as the trainer does not say how many samples a trial takes"
    elif not measured:
        yield "Time: not known; --calibrate measures it"
    elif untimed or not all(concurrency.values()):
        yield f"Time: not known, as no step of {' and '.join(untimed) or 'a trial'} could be timed"
    else:
        for phase, trials in phases(plan).items():
            wall_s = wall_clock((n, costs[arm].seconds, 1 / concurrency[arm]) for arm, n in trials.items())
            gpu_s = total(costs[arm] * n for arm, n in trials.items()).gpu_s
            gpu_hours = f", {gpu_s / 3600:.3g} GPU-hours" if gpu_s else ""
            whole = " without looks" if courses and phase != "search" else ""
            yield f"Time of the {phase}{whole}: about {duration(round(wall_s))}{gpu_hours}"
        yield from time_of_looks(plan, courses, costs, concurrency)
        yield "  (if no trial stops early, and each is as fast as when it runs alone)"
