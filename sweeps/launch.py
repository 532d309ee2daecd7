"""From a search space to finished results: the course of one launch.

    load and plan -> refuse what cannot be run -> connect to Ray -> run -> write the tables

Everything that can be refused is refused before a file is written or a process started.
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from analysis.compare.power_estimate import PowerEstimate
from sweeps.decide.controller import Controller
from sweeps.decide.placement import check_fits, concurrency_by_arm, share_for
from sweeps.decide.reuse import ReusableTrials, code_version
from sweeps.observe.console import Display
from sweeps.observe.forecast import comparisons
from sweeps.observe.mlflow_runs import absolute_uri, check_uri
from sweeps.observe.mlflow_writer import MlflowWriter, attach_report, sync
from sweeps.observe.notify import check_url, notify
from sweeps.observe.preview import preview
from sweeps.observe.summary import (
    BUDGET_SPENT,
    OK,
    SOME_FAILED,
    Failures,
    Outcome,
    mlflow_hint,
    next_steps,
    status_of,
    summary,
    sync_hint,
    warnings_and_reuse,
)
from sweeps.plan.build import load_plan
from sweeps.plan.checks import check_data
from sweeps.plan.model import Plan
from sweeps.plan.resources import Calibration, ClusterResources, local_resources
from sweeps.process import Signals, locked, logging_to
from sweeps.record.disk import DiskBudget
from sweeps.record.folder import JOURNAL, inspect_folder, refuse_other_data, renew_evidence, write_space
from sweeps.record.journal import Journal, read_journal
from sweeps.record.state import read_state
from sweeps.record.storage import NEEDED, Storage
from sweeps.record.tables import rebuild, write_results
from sweeps.space.errors import SpecError
from trm import __version__

MLFLOW_TIMEOUT_S = {"completed": 120.0, "budget": 120.0, "interrupted": 20.0}


@dataclass(frozen=True)
class LaunchOptions:
    """The arguments of one launch, as `run_sweep.py` takes them."""

    space: Path
    dry_run: bool = False
    calibrate: bool = False
    resume: bool = False
    extend: bool = False
    reuse: bool = False
    name: str | None = None
    storage: str = "results"  # a folder, or a URL of fsspec's
    tracking_uri: str = "sqlite:///mlflow.db"
    address: str | None = None
    max_concurrent: int | None = None
    notify: str | None = None
    overrides: tuple[str, ...] = ()
    quiet: bool = False


def launch(given: LaunchOptions) -> Outcome:
    """Do what the options say, and write the report. Raises SpecError for bad input, with nothing written."""
    outcome = _launch(given)
    if outcome.folder is not None:
        _write_report(outcome.folder, outcome, given)
        if outcome.storage is not None and (unsent := outcome.storage.send(outcome.folder.name)):
            print(f"Not all is where it belongs: {unsent}. The same command with --resume sends it.")
    return outcome


def _launch(given: LaunchOptions) -> Outcome:
    _check_options(given)
    plan = load_plan(given.space, given.overrides, given.name)
    if given.dry_run or given.calibrate:
        return _preview(plan, given)
    if plan.spec.evidence.pilot is not None:
        _power_estimate(plan)  # refuses a pilot that cannot be read
    storage = Storage(given.storage)
    folder = storage.folder(plan.spec.name)
    status = inspect_folder(plan, folder, given.resume, given.extend)
    if status.finished:
        return _show_again(plan, folder, given, storage)
    if given.address is None:  # before the data, which may have to be fetched
        check_fits(plan, local_resources(plan.uses_gpus), "this machine")
    data = check_data(plan)
    refuse_other_data(folder, data, status.extended)
    return _run(plan, folder, given, storage, data, status.extended)


def _check_options(given: LaunchOptions) -> None:
    if given.max_concurrent is not None and given.max_concurrent < 1:
        raise SpecError(f"--max-concurrent {given.max_concurrent}: must be 1 or more")
    if (given.address or "").startswith("ray://"):
        raise SpecError(
            f"--address {given.address}: Ray Client would move the sweep's course to the cluster: give "
            f"HOST:PORT, on a machine that has joined it"
        )
    check_uri(given.tracking_uri)
    if given.notify is not None:
        check_url(given.notify)


def _preview(plan: Plan, given: LaunchOptions) -> Outcome:
    """`--dry-run` and `--calibrate`; with --resume or --extend, of what is left to run."""
    begun: Path | None = None
    if given.resume or given.extend:
        begun = Storage(given.storage).folder(plan.spec.name)
        inspect_folder(plan, begun, given.resume, given.extend)
    has_power = comparisons(plan) > 0 or plan.spec.evidence.pilot is not None
    _show(plan, given, _power_estimate(plan, begun) if has_power else None)
    if begun is not None:
        print(f"Of these, {read_state(begun / JOURNAL).how_many_ended} have run in {begun} already")
    return Outcome(OK)


def _power_estimate(plan: Plan, begun: Path | None = None) -> PowerEstimate:
    """What the plan's evidence can find, by the spread in its pilot's results, else in those of the sweep
    that has begun. Raises SpecError where the pilot is of no use."""
    from analysis.compare.power_estimate import estimate_power
    from analysis.sweep import AnalysisError

    evidence, number = plan.spec.evidence, comparisons(plan)
    of = (plan.spec.objective.metric, number, evidence.test, evidence.pairing)
    if evidence.pilot is None and begun is not None:
        with suppress(AnalysisError):  # too little of it has run to tell
            return estimate_power(*of, begun)
    try:
        return estimate_power(*of, evidence.pilot)
    except AnalysisError as error:
        raise SpecError(f"{plan.source}: evidence.pilot: {error}") from error


def _show(plan: Plan, given: LaunchOptions, power: PowerEstimate | None) -> None:
    """Print the plan; with --calibrate also what it will take, after a few steps of each arm."""
    available, where = local_resources(plan.uses_gpus), "this machine"
    if given.address is not None:
        where += f", for want of a look at {given.address}"
    costs: dict[str, Calibration] = {}
    if given.calibrate:
        from sweeps.execute import cluster

        check_data(plan)
        if given.address is None:
            check_fits(plan, available, where)
        with logging_to(Path(os.devnull)):  # Ray's noise
            available = cluster.connect(given.address, count_gpus=plan.uses_gpus)
            if given.address is not None:
                where = f"the cluster at {given.address}"
                check_fits(plan, available, where)
            costs = dict(cluster.measure_arms(plan, plan.arms))
            cluster.disconnect()
    shares = {arm: share_for(cost) for arm, cost in costs.items()}
    side_by_side = concurrency_by_arm(plan, given.max_concurrent, available, shares)
    print(
        preview(
            plan, side_by_side, f"{available.cpu:g} CPU and {available.gpu:g} GPU on {where}", costs, power
        )
    )


def _show_again(plan: Plan, folder: Path, given: LaunchOptions, storage: Storage) -> Outcome:
    """A finished sweep: its tables anew, as a crash may have come before they were written; with --resume
    also what MLflow lacks."""
    notes, mirrored = ["This sweep is finished; its report again."], False
    if renew_evidence(plan, folder):
        notes.append("Its comparisons are settled by another rule than before: `evidence` has changed.")
    rebuild(folder)
    if given.resume:
        try:
            sync(folder, given.tracking_uri)
            mirrored = True
        except Exception as error:
            notes.append(sync_hint(folder, given.tracking_uri, f"{type(error).__name__}: {error}"))
    return Outcome(status_of(read_state(folder / JOURNAL)), folder, tuple(notes), storage, mirrored)


def _run(
    plan: Plan, folder: Path, given: LaunchOptions, storage: Storage, data: str, extended: bool
) -> Outcome:
    """Run what is left of the sweep, and write the tables whatever happens."""
    from sweeps.execute import cluster

    available = local_resources(plan.uses_gpus)
    if given.address is not None:
        available = cluster.connect(given.address, count_gpus=False)
        check_fits(plan, available, f"the cluster at {given.address}")
    code = code_version(plan.spec.trainer)
    reusable = ReusableTrials(storage.root, plan.spec.name, plan.trainer, code, data) if given.reuse else None
    history = list(read_journal(folder / JOURNAL))
    checkpoints = storage.checkpoints(plan.spec.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(
            f"--storage {given.storage}: {folder} cannot be made ({error.strerror}): give another folder"
        ) from error
    with (
        locked(folder),
        logging_to(folder / "logs" / "driver.log"),
        storage.uploading(folder.name),
        Signals() as signals,
    ):
        space = write_space(plan, folder, data, extended)
        journal = Journal(folder / JOURNAL)
        controller = Controller(plan, journal, history, reusable)
        writer = MlflowWriter(absolute_uri(given.tracking_uri), space, journal, history)
        journal.listeners.append(writer)
        if plan.spec.max_checkpoint_gb is not None:
            journal.listeners.append(DiskBudget(checkpoints, plan.spec, controller.state))
        writer.start()
        ending, failures = "interrupted", Failures()
        with failures.noted("the sweep"):
            controller.begin(version=__version__, code=code, libraries=_libraries())
            if unsent := storage.send(folder.name, NEEDED):  # before any checkpoint of it is there
                raise OSError(unsent)
            with Display(controller, given.quiet):
                _run_trials(controller, folder, given, checkpoints, available, signals)
            if controller.finished:
                ending = "completed"
            elif controller.out_of_budget and not signals.received():
                ending = "budget"
        with failures.noted("the journal"):
            controller.finish(ending)
        with failures.noted("the tables"):
            write_results(folder, controller.state, space)
        cluster.disconnect()
        trouble = writer.close(MLFLOW_TIMEOUT_S[ending])
        with failures.noted("the tables"):  # again, with the ids of runs that were made meanwhile
            write_results(folder, controller.state, space)
        journal.close()
    status = SOME_FAILED if failures.texts else status_of(controller.state)
    if not failures.texts and ending != "completed":
        status = BUDGET_SPENT if ending == "budget" else signals.exit_status
    notes = [
        *next_steps(controller, folder, ending, failures),
        *warnings_and_reuse(controller, folder, given.reuse),
    ]
    notes += [sync_hint(folder, given.tracking_uri, trouble)] if trouble else []
    notes += mlflow_hint(writer.link, given.tracking_uri)
    if given.notify is not None:
        notes += filter(None, [notify(given.notify, summary(controller, folder, status, ending))])
    return Outcome(status, folder, tuple(notes), storage, mirrored=not trouble)


def _libraries() -> str:
    """What trials run on, with its versions: beside the code's, what a rerun needs."""
    found = (f"{name} {metadata.version(name)}" for name in ("torch", "numpy", "ray", "optuna"))
    return ", ".join([f"Python {platform.python_version()}", *found])


def _run_trials(
    controller: Controller,
    folder: Path,
    given: LaunchOptions,
    checkpoints: str,
    available: ClusterResources,
    signals: Signals,
) -> None:
    """Until all have ended, or a signal or the budget ends it."""
    from sweeps.execute import cluster
    from sweeps.execute import tuner as engine

    plan = controller.plan
    if given.address is None:
        cluster.connect(None, plan.uses_gpus)
    signals.install()  # again: Ray puts a handler of its own in front
    for arm, cost in cluster.measure_arms(plan, controller.placement.to_measure(), signals.received):
        controller.placement.measured(arm, cost)
    bound = max(concurrency_by_arm(plan, given.max_concurrent, available, controller.state.shares).values())
    with suppress(engine.Interrupted):
        engine.run(controller, folder, checkpoints, bound, lambda: signals.received() or controller.must_stop)


def _write_report(folder: Path, outcome: Outcome, given: LaunchOptions) -> None:
    """Write the report beside the tables, put it into MLflow, and say where everything is."""
    from analysis.report.build import write_report
    from analysis.report.summary import ranking_text, write_summary
    from analysis.sweep import AnalysisError

    try:
        write_summary(folder)
        report = write_report(folder)
        if not given.quiet:
            print(ranking_text(folder))
        print(f"Report: {report}")
    except (AnalysisError, OSError) as error:  # a full disk must not change how the sweep ended
        print(f"No report yet: {error}")
    else:
        if outcome.mirrored:
            _attach_report(folder, given.tracking_uri)
    for note in outcome.notes:
        print(note)


def _attach_report(folder: Path, tracking_uri: str) -> None:
    """To the sweep's run in MLflow. A store that refuses it changes nothing else."""
    try:
        attach_report(folder, tracking_uri)
    except Exception as error:  # of any kind, by the store
        print(sync_hint(folder, tracking_uri, f"{type(error).__name__}: {error}"))
