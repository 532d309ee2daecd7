"""One launch, from the search space to the report.

    load and plan -> check -> connect to Ray -> run the trials -> write the tables and the report

`python -m sweeps run`, `run_sweep.py` and `sweeps.run` call `launch`. It calls the other folders in this
order: `plan` builds the trials, `record` opens the sweep's folder and journal, `decide.controller` chooses
trials and stops them, `execute.tuner` runs them on Ray, `observe` shows progress and writes MLflow. All bad
input is refused before a file is written or a process is started.
"""

from __future__ import annotations

import platform
import shutil
import signal
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.sweep import AnalysisError
from sweeps import report
from sweeps.decide.controller import Controller
from sweeps.decide.looks import refuse_idle_extension
from sweeps.decide.placement import check_fits
from sweeps.decide.reuse import ReusableTrials, code_version
from sweeps.dry_run import power_estimate, show_plan
from sweeps.observe.console import Display
from sweeps.observe.mlflow_process import MlflowProcess
from sweeps.observe.mlflow_writer import sync
from sweeps.observe.notify import FirstFailure, notify, webhook
from sweeps.observe.progress import Tracker
from sweeps.observe.summary import (
    BUDGET_SPENT,
    OK,
    SOME_FAILED,
    Failures,
    Outcome,
    mlflow_hint,
    next_steps,
    refused_by_mlflow,
    reused,
    status_of,
    summary,
    sync_hint,
    warnings,
)
from sweeps.options import LaunchOptions
from sweeps.plan.build import load_plan
from sweeps.plan.checks import check_data
from sweeps.plan.model import Plan
from sweeps.plan.resources import local_resources
from sweeps.process import LOCK, Signals, hangups_held, locked, logging_to
from sweeps.record.disk import DiskBudget
from sweeps.record.file_names import JOURNAL, PRIMARY
from sweeps.record.folder import (
    as_recorded,
    inspect_folder,
    refuse_other_data,
    update_units,
    write_space,
)
from sweeps.record.journal import Journal, read_journal
from sweeps.record.mlflow_file import MlflowFile
from sweeps.record.secrets import without_secret
from sweeps.record.state import SweepState, read_state
from sweeps.record.stop_request import StopRequest
from sweeps.record.storage import Storage
from sweeps.record.tables import rebuild, write_results
from sweeps.space.errors import SpecError
from trm import __version__

if TYPE_CHECKING:  # it imports ray, for which a preview need not wait
    from sweeps.execute.preflight import Preflight


def launch(options: LaunchOptions) -> Outcome:
    """Run the sweep, or what the options ask for instead, and write its report.

    Raises SpecError for bad input; nothing has been written then.
    """
    options.check()
    plan = load_plan(options.space, options.overrides, options.name)
    if options.dry_run or options.calibrate:
        show_plan(plan, options)
        return Outcome(OK)
    if plan.spec.evidence.pilot is not None:
        power_estimate(plan)  # only to refuse a pilot that cannot be read
    storage = Storage(options.storage)
    with storage.snapshot(plan.spec.name) as recorded:  # refused before anything is written
        data = _check(plan, recorded, options)
    folder = storage.root / plan.spec.name
    _make_folder(folder, options)
    with locked(folder), ExitStack() as at_end:
        request = StopRequest(folder)  # first: `stop` may be used from now on
        storage.folder(plan.spec.name)
        plan = as_recorded(plan, folder)
        # Again: until now another process may have worked on it.
        status = inspect_folder(plan, folder, options.resume, options.extend)
        if status.finished:
            outcome = _show_finished(plan, folder, options, storage)
        else:
            data = check_data(plan) if data is None else data
            refuse_other_data(folder, data, status.extended)
            try:
                outcome = _run(plan, folder, options, storage, request, data, status.extended, at_end)
            except SpecError:  # by the cluster: nothing was written yet
                _remove_unused(folder)
                raise
        outcome = _write_report(folder, outcome, options)
        if error := storage.send(folder.name):
            print(f"Not all files were uploaded: {error}. The same command with --resume uploads them.")
    return outcome


def _check(plan: Plan, recorded: Path, options: LaunchOptions) -> str | None:
    """Refuse a plan that cannot be run, or that is not that of the sweep in `recorded`. Returns the hashes of
    its data, or None if the sweep is finished."""
    plan = as_recorded(plan, recorded)
    status = inspect_folder(plan, recorded, options.resume, options.extend)
    if status.finished:
        return None
    if status.extended:
        refuse_idle_extension(plan, recorded / JOURNAL)
    if options.address is None:  # before check_data, which may have to download the data
        check_fits(plan, local_resources(plan.uses_gpus), "this machine")
    data = check_data(plan)
    refuse_other_data(recorded, data, status.extended)
    return data


# A finished sweep


def _show_finished(plan: Plan, folder: Path, options: LaunchOptions, storage: Storage) -> Outcome:
    """Write the tables of a finished sweep again, as a crash may have prevented it before; with --resume
    also write to MLflow what is missing there."""
    update_units(plan, folder)
    rebuild(folder)

    def write_to_mlflow() -> list[str]:
        if not options.resume:
            return list(mlflow_hint(MlflowFile.read(folder)))
        try:
            refused = sync(folder, options.tracking_uri, storage.checkpoints(folder.name), whole=False)
        except Exception as error:  # each store raises its own kinds
            reason = f"{type(error).__name__}: {error}"
            return [sync_hint(folder, options.storage, options.tracking_uri, reason)]
        return [*refused_by_mlflow(refused), *mlflow_hint(MlflowFile.read(folder))]

    state = read_state(folder / JOURNAL)
    notes = ("This sweep is finished; its report again.", *warnings(state, folder))
    return Outcome(status_of(state), folder, notes, write_to_mlflow)


# Run


@dataclass(frozen=True)
class _Stop:
    """What tells a launch to end in order: a signal, or a request by `stop`."""

    signals: Signals
    request: StopRequest

    def received(self) -> bool:
        return self.signals.received() or self.request.received()

    @property
    def exit_status(self) -> int:
        """128 + the signal's number; a request counts as SIGTERM."""
        return self.signals.exit_status if self.signals.received() else 128 + signal.SIGTERM


def _run(
    plan: Plan,
    folder: Path,
    options: LaunchOptions,
    storage: Storage,
    request: StopRequest,
    data: str,
    extended: bool,
    at_end: ExitStack,
) -> Outcome:
    """Run the trials that are left. Write the tables even if some part fails. What must end with the launch,
    even after an error, is put into `at_end`."""
    from sweeps.execute import cluster
    from sweeps.execute.preflight import Preflight

    @at_end.push
    def disconnect_after_error(kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            cluster.disconnect()

    preflight, signals = None, Signals()
    with signals:
        if options.address is not None:
            available = cluster.connect(options.address, count_gpus=False)
            signals.install()  # again, as Ray has installed its own handlers
            check_fits(plan, available, f"the cluster at {options.address}")
            preflight = Preflight(plan, storage.checkpoints(plan.spec.name))
            preflight.wait(available, options.address, signals.received)
        code = code_version(plan.spec.trainer)
        reusable = None
        if options.reuse:
            reusable = ReusableTrials(storage, plan.spec.name, plan.trainer, code, data)
        history = list(read_journal(folder / JOURNAL))
    with (
        logging_to(folder / "logs" / "driver.log"),
        storage.uploading(folder.name),
        signals,
    ):
        stop = _Stop(signals, request)
        space = write_space(plan, folder, data, extended)
        journal = Journal(folder / JOURNAL)
        controller = Controller(plan, journal, history, reusable)
        writer = MlflowProcess(folder, options.tracking_uri, storage.checkpoints(plan.spec.name))
        at_end.callback(writer.close)
        tracker = Tracker(controller.state, space)
        for event in history:
            tracker.apply(event)
        journal.listeners.append(tracker.apply)
        if options.notify is not None:
            journal.listeners.append(FirstFailure(webhook(options.notify), plan.spec.name))
        if plan.spec.max_checkpoint_gb is not None:
            checkpoints = storage.checkpoints(plan.spec.name)
            journal.listeners.append(DiskBudget(checkpoints, plan.spec, controller.state))
        ending, failures, mlflow_error = "interrupted", Failures(), ""
        with failures.catch("the sweep"):
            display = Display(tracker, options.quiet, lambda: writer.link, lambda: controller.waits_for)
            ending = _run_until_end(controller, display, folder, options, storage, stop, code, preflight)
        if controller.retries.gave_up:
            failures.texts.append(controller.retries.gave_up)
        with failures.catch("the journal"):
            controller.finish(ending)
        with failures.catch("the tables"):
            write_results(folder, _recorded(controller, folder, failures), space)
        with failures.catch("the end of Ray"):
            cluster.disconnect()
        with failures.catch("the wait for MLflow"):
            mlflow_error = writer.drain()
        with failures.catch("the tables"):  # again, with the ids of MLflow runs created in the meantime
            write_results(folder, _recorded(controller, folder, failures), space)
        with failures.catch("the journal"):
            journal.close()
    status = _exit_status(controller, ending, failures, stop)
    notes = _notes(controller, folder, options, ending, failures)
    if options.notify is not None:
        error = notify(webhook(options.notify), summary(controller, folder, status, ending))
        notes += [error] if error else []

    def end_mlflow() -> list[str]:
        error = mlflow_error or writer.attach()
        hint = [sync_hint(folder, options.storage, options.tracking_uri, error)] if error else []
        found = MlflowFile.read(folder)
        return [*hint, *refused_by_mlflow(found.notes), *mlflow_hint(found)]

    return Outcome(status, folder, tuple(notes), end_mlflow)


def _recorded(controller: Controller, folder: Path, failures: Failures) -> SweepState:
    """The sweep's state by its journal: an event that could not be synced is not there, and the controller
    may have taken it in."""
    return read_state(folder / JOURNAL) if failures.texts else controller.state


def _make_folder(folder: Path, options: LaunchOptions) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(
            f"--storage {without_secret(options.storage)}: {folder} cannot be created ({error.strerror}): "
            f"give another folder"
        ) from error


def _remove_unused(folder: Path) -> None:
    """Remove the folder of a launch that has only locked it, and the storage's if nothing else is there."""
    if {path.name for path in folder.iterdir()} <= {LOCK}:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()


def _run_until_end(
    controller: Controller,
    display: Display,
    folder: Path,
    options: LaunchOptions,
    storage: Storage,
    stop: _Stop,
    code: str,
    preflight: Preflight | None,
) -> str:
    """Run the sweep. Returns how it ended: "completed", "budget" or "interrupted"."""
    controller.begin(version=__version__, code=code, libraries=_libraries())
    if error := storage.send(folder.name, PRIMARY):  # before the first checkpoint is uploaded
        raise OSError(error)
    with display:
        _run_trials(controller, folder, options, storage, stop, preflight)
    if controller.finished:
        return "completed"
    is_stopped = stop.received() or controller.retries.gave_up
    return "budget" if controller.out_of_budget and not is_stopped else "interrupted"


def _libraries() -> str:
    """The versions that a rerun needs besides the code's own: "Python 3.11.9, torch 2.9.1, ..."."""
    versions = (f"{name} {metadata.version(name)}" for name in ("torch", "numpy", "ray", "optuna"))
    return ", ".join([f"Python {platform.python_version()}", *versions])


def _run_trials(
    controller: Controller,
    folder: Path,
    options: LaunchOptions,
    storage: Storage,
    stop: _Stop,
    preflight: Preflight | None,
) -> None:
    """Run trials until all have ended, the launch is told to end, or the budget is spent."""
    from sweeps.execute import cluster, tuner

    plan = controller.plan
    if options.address is None:
        with hangups_held():
            cluster.connect(None, plan.uses_gpus)
    stop.signals.install()  # again, as Ray has installed its own handlers
    for arm, cost in cluster.measure_arms(plan, controller.placement.arms_to_measure(), stop.received):
        controller.placement.record_measurement(arm, cost)
    checkpoints = storage.checkpoints(plan.spec.name)
    with suppress(tuner.Interrupted):
        tuner.run(
            controller,
            folder,
            checkpoints,
            options.max_concurrent,
            stop.received,
            options.grace,
            preflight,
        )


def _exit_status(controller: Controller, ending: str, failures: Failures, stop: _Stop) -> int:
    if failures.texts:
        return SOME_FAILED
    if ending == "completed":
        return status_of(controller.state)
    return BUDGET_SPENT if ending == "budget" else stop.exit_status


def _notes(
    controller: Controller,
    folder: Path,
    options: LaunchOptions,
    ending: str,
    failures: Failures,
) -> list[str]:
    """The messages that follow the report."""
    return [
        *next_steps(controller, folder, ending, failures),
        *warnings(controller.state, folder),
        *(reused(controller.state) if options.reuse else ()),
    ]


# The report


def _write_report(folder: Path, outcome: Outcome, options: LaunchOptions) -> Outcome:
    """Write the report into the sweep's folder, attach it in MLflow, and print the ranking and the notes.
    Returns the outcome with the ranking."""
    notes, ranking = [*outcome.notes], ""
    try:
        page = report.write(folder)
        ranking = report.ranking_of(folder)
        if not options.quiet:
            print(ranking)
        print(f"Report: {page}")
    except (AnalysisError, OSError) as error:  # for example a full disk; it must not change the exit status
        print(f"No report yet: {error}")
    notes += outcome.end_mlflow()
    for note in notes:
        print(note)
    return replace(outcome, ranking_text=ranking, notes=tuple(notes))
