"""What a sweep will do, before it does it: `--dry-run`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from sweeps.plan import Plan
from sweeps.schedulers import build_scheduler
from sweeps.spec import SchedulerSpec


def preview(plan: Plan, at_once: int, why: str) -> str:
    """The arms, the trials of each phase, the rungs, and what to know before the launch. `why` says what bounds
    the trials at once."""
    console = Console(record=True, width=110, file=_Nowhere(), highlight=False)  # type: ignore[arg-type]
    spec = plan.spec
    console.print(f"[bold]{spec.name}[/bold]: {spec.objective.mode}imise {spec.objective.metric}; {spec.trainer}")
    console.print(_arms(plan))
    for line in [*_phases(plan), *_stopping(plan), f"At once: {at_once} ({why})"]:
        console.print(line, soft_wrap=True)
    for warning in warnings(plan):
        console.print(f"[yellow]Note:[/yellow] {warning}", soft_wrap=True)
    return console.export_text().rstrip()


def warnings(plan: Plan) -> list[str]:
    """What is allowed, but may not be what was meant."""
    found = []
    spec = plan.spec
    trials = plan.search_trials()
    if spec.scheduler.kind != "fifo" and not can_stop(spec.scheduler, _members(plan)):
        found.append(
            f"scheduler {spec.scheduler.kind} can stop nothing here: it has {_members(plan)} members a pool (scope "
            f"{spec.scheduler.scope}) and rungs {build_scheduler(spec.scheduler).rungs()}"
        )
    if spec.tune and spec.search.algorithm == "tpe" and spec.search.draws_per_arm < 20:
        found.append(
            f"tpe draws its first ten at random, and {spec.search.draws_per_arm} draws an arm leave it little to "
            f"learn from: give it 20 or more, or use sobol"
        )
    if not spec.tune and trials:
        found.append("with a scheduler and nothing to tune, the survivors are exploratory: they carry no claims")
    if len(spec.seeds) < 2:
        found.append("one seed: no interval can be given; five or more let differences be told from noise")
    if not spec.trainer.startswith("trm."):
        found.append(f"{spec.trainer} is imported from outside this package, because the space names it")
    return found


def can_stop(scheduler: SchedulerSpec, members: int) -> bool:
    """Whether a pool of so many members can ever lose one."""
    needed = {"asha": 2, "median": 4, "fixed": scheduler.keep + 1}.get(scheduler.kind)
    return needed is not None and members >= needed and bool(build_scheduler(scheduler).rungs())


def _members(plan: Plan) -> int:
    """Members of the largest pool."""
    if plan.spec.tune and plan.spec.search.algorithm == "tpe":
        draws = {arm.name: plan.spec.search.draws_per_arm for arm in plan.arms}
    else:
        draws = {arm.name: len(plan.draws(arm)) for arm in plan.arms}
    return max(draws.values()) if plan.spec.scheduler.scope == "arm" else sum(draws.values())


def _arms(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("arm")
    for heading in ("parameters", "vs baseline", "FLOPs a sample", "vs baseline"):
        table.add_column(heading, justify="right")
    first = plan.arms[0]
    for arm in plan.arms:
        name = f"{arm.name} (baseline)" if arm.name == plan.baseline else arm.name
        table.add_row(
            name,
            f"{arm.num_params:,}" if arm.num_params is not None else "not said",
            _ratio(arm.num_params, first.num_params),
            f"{arm.flops_per_sample:.3g}" if arm.flops_per_sample is not None else "not said",
            _ratio(arm.flops_per_sample, first.flops_per_sample),
        )
    return table


def _ratio(value: int | None, of: int | None) -> str:
    return f"{value / of:.2f}" if value is not None and of else ""


def _phases(plan: Plan) -> list[str]:
    spec, arms = plan.spec, len(plan.arms)
    if not spec.tune:
        phase = "under the scheduler" if plan.search_trials() else "run to the end"
        return [f"{_many(arms, 'arm')} x {_many(len(spec.seeds), 'seed')}: {arms * len(spec.seeds)} trials, {phase}"]
    search = spec.search
    draws = [search.draws_per_arm if search.algorithm == "tpe" else len(plan.draws(arm)) for arm in plan.arms]
    looked = sum(draws) * len(search.seeds)
    kept = sum(min(search.keep, number) for number in draws) * len(spec.seeds)
    return [
        f"Search:   {_many(arms, 'arm')} x {'/'.join(map(str, dict.fromkeys(draws)))} draws ({search.algorithm}) x "
        f"{_many(len(search.seeds), 'seed')}: {looked} trials, under the scheduler",
        f"Evidence: {_many(arms, 'arm')} x best {_many(search.keep, 'draw')} x {_many(len(spec.seeds), 'seed')}: "
        f"{kept} trials, run to the end",
    ]


def _stopping(plan: Plan) -> list[str]:
    scheduler = plan.spec.scheduler
    lines = []
    if plan.horizon is not None:
        lines.append(f"A whole trial: {plan.horizon:,.0f} {scheduler.time_attr}")
    if scheduler.kind != "fifo":
        rungs = ", ".join(f"{rung:,.0f}" for rung in build_scheduler(scheduler).rungs()) or "none"
        lines.append(
            f"Stopping: {scheduler.kind} on {scheduler.metric} ({scheduler.mode}) over each {scheduler.scope}; rungs "
            f"at {rungs} {scheduler.time_attr}"
        )
    return lines


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


class _Nowhere:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass
