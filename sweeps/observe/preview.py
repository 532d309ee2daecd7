"""What a sweep will do, before it does it: `--dry-run`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from analysis.format import few
from sweeps.decide.selection import FEWEST_TO_SMOOTH
from sweeps.observe.cost import phases, total, trial_cost
from sweeps.observe.forecast import forecast, times
from sweeps.observe.rule import describe_rule
from sweeps.observe.simulated import simulated
from sweeps.plan.draws import TPE_STARTUP
from sweeps.plan.match import deviation
from sweeps.plan.model import Arm, Plan
from sweeps.plan.resources import Calibration
from sweeps.space.schema import SchedulerSpec
from trm.settings.yaml import in_a_line

if TYPE_CHECKING:  # it loads pandas, for which a plan need not wait
    from analysis.compare.power_estimate import PowerEstimate

LATE = 1.01  # times a rung: a report up to there is at the rung, as trainers round up to whole steps
RUNGS = 3  # of one kind that a note names
NOTES = 3  # of one kind, for arms that differ
MUCH = 1.1  # a ratio of parameters or FLOPs from which arms are not of one size


def preview(
    plan: Plan,
    concurrency_by_arm: Mapping[str, int],
    resources: str,
    costs: Mapping[str, Calibration] | None = None,
    power: PowerEstimate | None = None,
    memory: Mapping[str, int] | None = None,
) -> str:
    """The arms, the trials of each phase, the rungs, what the evidence can tell, and what else to know.

    `concurrency_by_arm` says how many trials of each arm run side by side, `resources` what there is to run
    on; `costs` are those of the arms that were measured. `power` is what so many seeds can find; `memory` the
    bytes that a trial of each arm is estimated to need on a GPU.
    """
    console = Console(record=True, width=110, file=_Nowhere(), highlight=False)  # type: ignore[arg-type]
    spec = plan.spec
    unit = spec.objective.unit
    goal = f"{spec.objective.mode}imise {spec.objective.metric}{'' if unit == 'none' else f' ({unit})'}"
    console.print(f"[bold]{spec.name}[/bold]: {goal}; {spec.trainer}", soft_wrap=True)
    console.print(_arms(plan, memory or {}))
    lines = [*_factors(plan), *_matching(plan), *_phases(plan), *_stopping(plan)]
    at_once = str(max(concurrency_by_arm.values())) if all(concurrency_by_arm.values()) else "none"
    lines.append(f"At once: {at_once} ({_a_trial(plan)}; {resources})")
    sd = power.sd if power is not None else None
    courses = simulated(plan, sd)
    lines += [*_limits(plan), *times(plan, concurrency_by_arm, costs or {}, courses)]
    lines += describe_rule(plan, courses, sd)
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
    for part in forecast(plan, power, costs or {}) if power is not None else ():
        console.print(part, soft_wrap=True, markup=False)
    for warning in warnings(plan):
        console.print(f"Note: {warning}", soft_wrap=True, markup=False)
    return console.export_text().rstrip()


def warnings(plan: Plan) -> list[str]:
    """What is allowed, but may not be what was meant."""
    told = _by_arm(plan, [(arm, note) for arm in plan.arms for note in dict.fromkeys(arm.notes)])
    of_gpus = dict.fromkeys(note for arm in plan.arms if arm.gpu for note in arm.gpu_notes)
    return [*_about_stopping(plan), *_about_evidence(plan), *_about_size(plan), *told, *of_gpus]


def _about_stopping(plan: Plan) -> Iterator[str]:
    scheduler = plan.spec.scheduler
    if not scheduler.stops:
        return
    if scheduler.max_t is not None and any(arm.horizon is None for arm in plan.arms):
        yield (
            "the trainer names no horizon_key in describe(config), or it is tuned: max_t places the rungs, "
            "and how long a trial runs is its config's matter"
        )
    members = _members(plan)
    if not can_stop(scheduler, members):
        yield (
            f"scheduler {scheduler.kind} can never stop anything here: scope {scheduler.scope} gives it "
            f"pools of {_many(members, 'draw')} at most, and it needs {scheduler.build().needed():g}"
        )
    if not plan.spec.tune:
        yield "with a scheduler and nothing to tune, the survivors are exploratory: they carry no claims"
    rungs = [(arm, text) for arm in plan.arms if (text := _between_reports(scheduler, arm))]
    yield from _by_arm(plan, rungs, NOTES)


def _between_reports(scheduler: SchedulerSpec, arm: Arm) -> str:
    """The rungs at which the arm's trials have no report, and where they are judged instead (`decide.judge`);
    '' if every rung has one, or if it is not known when the trials report."""
    per_sample = {"samples": 1, "flops": arm.flops_per_sample}.get(scheduler.time_attr)
    if not per_sample or not arm.samples_per_report or arm.horizon is None:
        return ""
    interval, end = arm.samples_per_report * per_sample, arm.horizon * per_sample
    at = first_reports(scheduler.build().rungs(), interval, end)
    skipped = [rung for rungs in at.values() for rung in rungs[:-1]]
    last = at.pop(end, [])[-1:]
    late = [(rungs[-1], report) for report, rungs in at.items() if report > rungs[-1] * LATE]
    if not (skipped or late or last):
        return ""
    number = ".4g" if scheduler.time_attr == "flops" else ",.0f"
    found = {
        "judged later: ": [f"{rung:{number}} at {report:{number}}" for rung, report in late],
        "judging nobody, as a report counts at the highest rung that it has reached: ": [
            f"{rung:{number}}" for rung in skipped
        ],
        "judged at the trial's end, where a stop saves nothing: ": [f"{rung:{number}}" for rung in last],
    }
    rungs = "; ".join(said + few(numbers, RUNGS) for said, numbers in found.items() if numbers)
    return (
        f"a trial reports every {interval:{number}} {scheduler.time_attr}, and not at every rung ({rungs}): "
        f"choose a scheduler.grace_period (and a reduction_factor) whose rungs are multiples of that, or let "
        f"the trainer report more often"
    )


def first_reports(rungs: list[float], interval: float, end: float) -> dict[float, list[float]]:
    """The rungs that are reached first by each report of a trial that reports at the multiples of `interval`
    and at its end. The last rung of each is where the report counts (`decide.judge`)."""
    found: dict[float, list[float]] = {}
    for rung in rungs:
        report = math.ceil(rung / interval * (1 - 1e-9)) * interval  # not one later for a rounding error
        found.setdefault(min(report, end), []).append(rung)
    return found


def _by_arm(plan: Plan, said: list[tuple[Arm, str]], most: int | None = None) -> Iterator[str]:
    """Each text once, with the arms that it is of where it is not of all. `most` bounds texts that say the
    same with other numbers."""
    arms: dict[str, list[str]] = {}
    for arm, text in said:
        arms.setdefault(text, []).append(arm.name)
    for text, of in list(arms.items())[:most]:
        yield text if len(of) == len(plan.arms) else f"{few(of)}: {text}"
    if most is not None and (more := [arm for of in list(arms.values())[most:] for arm in of]):
        yield f"{few(more)}: the like"


def _about_evidence(plan: Plan) -> Iterator[str]:
    spec = plan.spec
    if spec.tune and spec.search.algorithm == "tpe" and spec.search.draws_per_arm < 20:
        yield (
            f"tpe draws its first ten at random, and {spec.search.draws_per_arm} draws an arm leave it "
            f"little to learn from: give it 20 or more, or use sobol"
        )
    if len(spec.seeds) < 2:
        yield "one seed: no interval can be given; five or more let differences be told from noise"
    if not spec.trainer.startswith("trm."):
        yield f"{spec.trainer} is imported from outside this package, because the space names it"


def _about_size(plan: Plan) -> Iterator[str]:
    """Arms that could not be matched; and factors whose levels, all else equal, differ in size or in work:
    they change two things at once."""
    unmatched = [arm.name for arm in plan.arms if arm.match is not None and not arm.match.matched]
    if unmatched:
        yield f"not within match.tolerance, marked in the report: {', '.join(unmatched)}"
    length = ("FLOPs a sample", "flops_per_sample"), "at equal FLOPs as well as at equal samples"
    if plan.train_flops is not None:
        length = ("the number of samples", "horizon"), "over samples as well as over FLOPs"
    for factor in plan.spec.ablate:
        found = [
            f"{what} (up to {ratio:.2g}x)"
            for what, attribute in (("parameters", "num_params"), length[0])
            if (ratio := _largest_ratio(plan.arms, factor, attribute)) >= MUCH
        ]
        if found:
            changes = " and ".join(found)
            yield f"{factor} changes {changes} too: compare {length[1]}"


def _largest_ratio(arms: tuple[Arm, ...], factor: str, attribute: str) -> float:
    """Among arms that differ in this factor alone."""
    groups: dict[str, list[float]] = {}
    for arm in arms:
        value = getattr(arm, attribute)
        others = {name: level for name, level in arm.levels.items() if name != factor}
        if factor in arm.levels and value:
            groups.setdefault(repr(others), []).append(value)
    return max((max(values) / min(values) for values in groups.values()), default=1.0)


def can_stop(scheduler: SchedulerSpec, members: int) -> bool:
    """Whether a pool of so many members can ever lose one."""
    made = scheduler.build()
    return members >= made.needed() and bool(made.rungs())


def _members(plan: Plan) -> int:
    """Members of the largest pool."""
    draws = [plan.number_of_draws(arm) for arm in plan.arms]
    return max(draws) if plan.spec.scheduler.scope == "arm" else sum(draws)


def _arms(plan: Plan, memory: Mapping[str, int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("arm", overflow="fold")
    for heading in ("parameters", "vs baseline", "FLOPs a sample", "vs baseline"):
        table.add_column(heading, justify="right")
    has_depth = any(arm.effective_depth is not None for arm in plan.arms)
    if has_depth:
        table.add_column("depth", justify="right")
    if memory:
        table.add_column("GPU memory", justify="right")
    match = plan.spec.match
    if match is not None:
        is_length = plan.train_flops is not None
        table.add_column("samples" if is_length else match.by.rpartition(".")[2], justify="right")
        if is_length:
            table.add_column("training FLOPs", justify="right")
        table.add_column("off match", justify="right")
    first = plan.arms[0]
    for arm in plan.arms:
        name = f"{arm.name} (baseline)" if arm.name == plan.baseline else arm.name
        table.add_row(
            name,
            f"{arm.num_params:,}" if arm.num_params is not None else "not said",
            _ratio(arm.num_params, first.num_params),
            f"{arm.flops_per_sample:.3g}" if arm.flops_per_sample is not None else "not said",
            _ratio(arm.flops_per_sample, first.flops_per_sample),
            *([str(arm.effective_depth)] if has_depth else []),
            *([f"about {memory[arm.name] / 2**30:.3g} GiB" if arm.name in memory else ""] if memory else []),
            *_match_of(plan, arm),
        )
    return table


def _match_of(plan: Plan, arm: Arm) -> list[str]:
    match = arm.match
    if match is None:
        return []
    off = deviation(match) + ("" if match.matched else " !")
    if plan.train_flops is not None:
        return [f"{match.value:,.0f}", f"{match.size:.4g}", off]
    return [f"{match.value:.6g}" if match.value is not None else "-", off]


def _matching(plan: Plan) -> Iterator[str]:
    if (match := plan.spec.match) is not None:
        yield f"Matched by {match.by}: {match.said}, within {match.tolerance:.2%}"


def _ratio(value: int | None, of: int | None) -> str:
    return f"{value / of:.2f}" if value is not None and of else ""


def _factors(plan: Plan) -> Iterator[str]:
    """The levels of named factors, which an arm's name does not spell out."""
    for name, factor in plan.spec.ablate.items():
        for level, sets in (factor.levels or {}).items():
            yield f"{name} = {level}: " + ", ".join(
                f"{key}: {in_a_line(value)}" for key, value in sets.items()
            )


def _phases(plan: Plan) -> Iterator[str]:
    spec = plan.spec
    seeds = _many(len(spec.seeds), "seed")
    draws = [plan.number_of_draws(arm) for arm in plan.arms]
    arms = _many(len(draws), "arm")
    search, evidence = spec.search, list(phases(plan).values())[-1]
    more = len(plan.more_baseline_seeds)
    of_baseline = f", and {plan.baseline} x {_many(more, 'seed')} more" if more else ""
    if not spec.tune:
        phase = "Evidence, run to the end" if not spec.scheduler.stops else "Search, under the scheduler"
        yield f"{phase}: {arms} x {seeds}{of_baseline} = {_trials(plan, evidence)}"
        return
    numbers = "/".join(str(number) for number in dict.fromkeys(draws))
    yield (
        f"Search, under the scheduler: {arms} x {numbers} draws ({search.algorithm}) x "
        f"{_many(len(search.seeds), 'seed')} = {_trials(plan, phases(plan)['search'])}"
    )
    if search.algorithm == "tpe":
        at_once = len(search.seeds) * sum(min(number, TPE_STARTUP) for number in draws)
        yield (
            f"Before any result tpe makes {TPE_STARTUP} draws an arm, at random; each later one waits until "
            f"{TPE_STARTUP} of its arm have ended and fewer are open, so that at most "
            f"{_many(at_once, 'trial')} of the search run at once, however many workers there are"
        )
    yield (
        f"Evidence, run to the end: {arms} x best {_many(search.keep, 'draw')} x {seeds}{of_baseline} = "
        f"{_trials(plan, evidence)}"
    )
    if search.choose == "smoothed":
        yield (
            f"Draws are chosen by one surface over the results of all arms (search.choose smoothed): no "
            f"evidence begins before the searches of all arms have ended; an arm with fewer than "
            f"{FEWEST_TO_SMOOTH} completed draws takes its best"
        )


def _trials(plan: Plan, by_arm: Mapping[str, int]) -> str:
    """How many trials these are, and what they cost if none stops early."""
    cost = total(trial_cost(arm, {}) * by_arm[arm.name] for arm in plan.arms)
    trials, samples, flops, _ = cost.cells
    if not samples:
        return f"{trials} trials"
    return f"{trials} trials (at most {samples} samples{f', {flops} FLOPs' if flops else ''})"


def _stopping(plan: Plan) -> Iterator[str]:
    scheduler = plan.spec.scheduler
    horizons = [arm.horizon for arm in plan.arms if arm.horizon is not None]
    if plan.train_flops is not None:
        yield (
            f"A whole trial: {plan.train_flops:.4g} training FLOPs, {min(horizons):,.0f} to "
            f"{max(horizons):,.0f} samples by arm"
        )
    elif plan.horizon is not None:
        yield f"A whole trial: {plan.horizon:,.0f} samples"
    if scheduler.stops:
        over = "each arm" if scheduler.scope == "arm" else "the whole sweep"
        audit = f", {scheduler.audit:g} of those to be stopped audited" if scheduler.audit else ""
        number = ".4g" if scheduler.time_attr == "flops" else ",.0f"
        rungs = ", ".join(f"{rung:{number}}" for rung in scheduler.build().rungs()) or "none"
        yield (
            f"Stopping: {scheduler.kind} on {scheduler.metric} ({scheduler.mode}) over "
            f"{over}{audit}; rungs at {rungs} {scheduler.time_attr}"
        )


def _a_trial(plan: Plan) -> str:
    """What a trial is given: "1 CPU and 0.25 GPU a trial", for each kind of arm."""
    kinds: dict[str, list[str]] = {}
    for arm in plan.arms:
        gpu = arm.gpu if isinstance(arm.gpu, str) else f"{arm.gpu:g}"
        kinds.setdefault(f"{arm.cpu:g} CPU and {gpu} GPU a trial", []).append(arm.name)
    if len(kinds) == 1:
        return next(iter(kinds))
    return ", ".join(f"{kind} of {' and '.join(arms)}" for kind, arms in kinds.items())


def _limits(plan: Plan) -> Iterator[str]:
    limits = plan.spec.budget.model_dump(exclude_none=True)
    if limits:
        yield "Budget: " + ", ".join(f"{name} {limit:,g}" for name, limit in limits.items())


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


class _Nowhere:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass
