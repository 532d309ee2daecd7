"""One launch, from the search space to the report.

    load and plan -> check -> run what is left -> write the report

`python -m sweeps run`, `run_sweep.py` and `sweeps.run` call `launch`. `plan` builds the trials, `record`
opens the sweep's folder, and `sweeps.running` runs the trials that are left. All bad input is refused before
a file is written or a process is started.
"""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from analysis.sweep import AnalysisError
from sweeps import report
from sweeps.decide.looks import refuse_idle_extension
from sweeps.decide.placement import check_fits
from sweeps.dry_run import power_estimate, show_plan
from sweeps.observe.mlflow_writer import sync
from sweeps.observe.summary import (
    OK,
    Outcome,
    mlflow_hint,
    refused_by_mlflow,
    status_of,
    sync_hint,
    warnings,
)
from sweeps.options import LaunchOptions
from sweeps.plan.build import load_plan
from sweeps.plan.checks import check_data
from sweeps.plan.model import Plan
from sweeps.plan.resources import local_resources
from sweeps.process import LOCK, Signals, locked
from sweeps.record.file_names import JOURNAL
from sweeps.record.folder import as_recorded, inspect_folder, refuse_other_data, update_units
from sweeps.record.mlflow_file import MlflowFile
from sweeps.record.secrets import without_secret
from sweeps.record.state import read_state
from sweeps.record.stop_request import StopRequest
from sweeps.record.storage import Storage
from sweeps.record.tables import rebuild
from sweeps.running import Run, Stop
from sweeps.space.errors import SpecError
from sweeps.sweep_status import refuse_running


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
    _refuse_rays_second_start()
    storage = Storage(options.storage)
    refuse_running(storage, plan.spec.name)
    with storage.snapshot(plan.spec.name) as recorded:  # refused before anything is written
        data = _check(plan, recorded, options)
    folder = storage.root / plan.spec.name
    _make_folder(folder, options)
    with locked(folder), ExitStack() as at_end:
        stop = Stop(Signals(), StopRequest(folder))  # first: `stop` may be used from now on
        storage.folder(plan.spec.name)
        plan = as_recorded(plan, folder)
        # Again: until now another process may have worked on it.
        status = inspect_folder(plan, folder, options.resume, options.extend)
        if status.finished:
            outcome = _show_finished(plan, folder, options, storage)
        else:
            data = check_data(plan) if data is None else data
            refuse_other_data(folder, data, status.extended)
            run = Run(plan, folder, options, storage, stop, data, status.extended)
            try:
                outcome = run.to_its_end(at_end)
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


def _refuse_rays_second_start() -> None:
    """Raise SpecError if the caller uses Ray in this process, as a notebook may: the launch starts and ends
    one of its own."""
    ray = sys.modules.get("ray")  # who has not imported it does not use it
    if ray is not None and ray.is_initialized():
        raise SpecError(
            "Ray is in use in this process: call ray.shutdown() first; or launch from a terminal, with "
            "--address to use that instance"
        )


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
            return [sync_hint(folder.name, storage, options.tracking_uri, reason)]
        return [*refused_by_mlflow(refused), *mlflow_hint(MlflowFile.read(folder))]

    state = read_state(folder / JOURNAL)
    notes = ("This sweep is finished; its report again.", *warnings(state, folder))
    return Outcome(status_of(state), folder, notes, write_to_mlflow)


# The folder


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
