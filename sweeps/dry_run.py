"""`--dry-run` and `--calibrate`: print what a launch would run, and what its evidence could find."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.format import UNITS
from sweeps.decide.looks import refuse_idle_extension
from sweeps.decide.placement import check_fits, concurrency_by_arm, share_for
from sweeps.observe.forecast import comparisons
from sweeps.observe.preview import preview
from sweeps.options import LaunchOptions
from sweeps.plan.checks import check_data
from sweeps.plan.model import Plan
from sweeps.plan.resources import Calibration, ClusterResources, local_resources
from sweeps.process import logging_to
from sweeps.record.file_names import JOURNAL
from sweeps.record.folder import as_recorded, inspect_folder, recorded_rule
from sweeps.record.state import read_state
from sweeps.record.storage import Storage
from sweeps.space.errors import SpecError

MOST_ESTIMATED = 20

if TYPE_CHECKING:  # it loads pandas, for which a plan need not wait
    from analysis.compare.power_estimate import PowerEstimate


def show_plan(plan: Plan, options: LaunchOptions) -> None:
    """Print the plan. With --resume or --extend, also how many of its trials have already run. Writes
    nothing."""
    if not (options.resume or options.extend):
        _show_with_power(plan, options, None)
        return
    storage, name = Storage(options.storage), plan.spec.name
    with storage.snapshot(name) as folder:
        plan = as_recorded(plan, folder)
        if inspect_folder(plan, folder, options.resume, options.extend).extended:
            refuse_idle_extension(plan, folder / JOURNAL)
        _show_with_power(plan, options, folder)
        ended = read_state(folder / JOURNAL).num_ended
    print(f"Of these, {ended} have already run in {storage.files(name).where}")


def _show_with_power(plan: Plan, options: LaunchOptions, folder: Path | None) -> None:
    has_power = comparisons(plan) > 0 or plan.spec.evidence.pilot is not None
    _show(plan, options, power_estimate(plan, folder) if has_power else None)


def power_estimate(plan: Plan, folder: Path | None = None) -> PowerEstimate:
    """The differences that the plan's evidence can detect, by the spread among seeds in the pilot's results,
    or without a pilot in the sweep's own results in `folder`.

    Raises SpecError if the pilot cannot be used.
    """
    from analysis.compare.power_estimate import estimate_power
    from analysis.sweep import AnalysisError

    evidence, number = plan.spec.evidence, comparisons(plan)
    rule = recorded_rule(folder) if plan.rule is None and folder is not None else plan.rule
    assert rule is not None
    metric = plan.spec.objective.metric
    level = rule.level(0)
    arguments = (metric, UNITS[plan.units[metric]], number, rule.test, rule.pairing)
    if evidence.pilot is None and folder is not None:
        with suppress(AnalysisError):  # too few trials have run to estimate the spread
            return estimate_power(*arguments, folder, level)
    try:
        return estimate_power(*arguments, evidence.pilot, level)
    except AnalysisError as error:
        raise SpecError(f"{plan.source}: evidence.pilot: {error}") from error


def _show(plan: Plan, options: LaunchOptions, power: PowerEstimate | None) -> None:
    """Print the plan; with --calibrate run a few steps of each arm first, and print the time as well."""
    costs: dict[str, Calibration] = {}
    if options.calibrate:
        available, where, costs = _calibrate(plan, options)
    else:
        available, where = local_resources(plan.uses_gpus), "this machine"
        if options.address is not None:
            where += f" (--dry-run does not connect to {options.address})"
    shares = {arm: share_for(cost) for arm, cost in costs.items()}
    concurrency = concurrency_by_arm(plan, options.max_concurrent, available, shares)
    resources = f"{available.cpu:g} CPU and {available.gpu:g} GPU on {where}"
    print(preview(plan, concurrency, resources, costs, power, _gpu_memory(plan)))


def _gpu_memory(plan: Plan) -> dict[str, int]:
    """Bytes that a trial of each arm with a GPU needs, estimated, where the trainer can say; none for a plan
    of more than MOST_ESTIMATED arms, as each may take a second."""
    trainer, arms = plan.trainer, [arm for arm in plan.arms if arm.gpu]
    if len(arms) > MOST_ESTIMATED:
        return {}
    configs = {arm.name: trainer.config_model.model_validate(arm.config) for arm in arms}
    found = {name: trainer.gpu_memory(config) for name, config in configs.items()}
    return {name: number for name, number in found.items() if number is not None}


def _calibrate(plan: Plan, options: LaunchOptions) -> tuple[ClusterResources, str, dict[str, Calibration]]:
    """Run a few steps of each arm. Returns the resources, the name of their place, and each arm's costs."""
    from sweeps.execute import cluster

    where = "this machine" if options.address is None else f"the cluster at {options.address}"
    check_data(plan)
    if options.address is None:  # before Ray is started
        check_fits(plan, local_resources(plan.uses_gpus), where)
    with logging_to(Path(os.devnull)):  # discard Ray's log
        available = cluster.connect(options.address, count_gpus=plan.uses_gpus)
        if options.address is not None:
            check_fits(plan, available, where)
        costs = dict(cluster.measure_arms(plan, plan.arms))
        cluster.disconnect()
    return available, where, costs
