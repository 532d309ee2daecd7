"""From a search space to finished results: the course of one launch.

    load and plan -> refuse what cannot be run -> connect to Ray -> run -> write the tables

Everything that can be refused is refused before a file is written or a process started.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from sweeps import __version__
from sweeps.conductor import Conductor
from sweeps.console import Display
from sweeps.disk import DiskBudget
from sweeps.ending import (
    BAD_INPUT,
    BUDGET_SPENT,
    OK,
    SOME_FAILED,
    Failures,
    Outcome,
    how_to_sync,
    next_steps,
    status_of,
    summary,
    where_to_look,
    worth_knowing,
)
from sweeps.errors import SpecError
from sweeps.folder import JOURNAL, look, refuse_other_data, renew_evidence, write_space
from sweeps.journal import Journal, read_journal
from sweeps.mlflow_store import absolute_uri, check_uri
from sweeps.notify import check_url, notify
from sweeps.placement import fits, refuse_misfits, share_for
from sweeps.plan import Plan, check_data, load_plan
from sweeps.preview import preview
from sweeps.process import Signals, locked, logging_to
from sweeps.prospects import Outlook, comparisons
from sweeps.resources import Measured, Resources, local_resources
from sweeps.results import rebuild, write_results
from sweeps.reuse import Past, code_version
from sweeps.state import read_state
from sweeps.storage import NEEDED, Storage
from sweeps.tracking import Mirror, sync

__all__ = ["BAD_INPUT", "Launch", "Outcome", "launch"]

MIRROR_TIMEOUT_S = {"completed": 120.0, "budget": 120.0, "interrupted": 20.0}


@dataclass(frozen=True)
class Launch:
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


def launch(given: Launch, outlook_of: Callable[[Plan, Path | None], Outlook] | None = None) -> Outcome:
    """Do what the arguments say. Raises SpecError for bad input, with nothing written.

    `outlook_of` says what a plan's evidence can tell, from what a begun sweep has in its folder where it is
    given one, and raises SpecError where the plan's pilot cannot be read.
    """
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
    plan = load_plan(given.space, given.overrides, given.name)
    is_preview = given.dry_run or given.calibrate
    is_asked = (is_preview and comparisons(plan) > 0) or plan.spec.evidence.pilot is not None
    begun: Path | None = None  # the sweep that is gone on with
    if is_preview and (given.resume or given.extend):
        begun = Storage(given.storage).folder(plan.spec.name)
        look(plan, begun, given.resume, given.extend)
    outlook = outlook_of(plan, begun) if outlook_of is not None and is_asked else None
    if is_preview:
        _show(plan, given, outlook)
        if begun is not None:
            print(f"Of these, {read_state(begun / JOURNAL).how_many_ended} have run in {begun} already")
        return Outcome(OK)
    storage = Storage(given.storage)
    folder = storage.folder(plan.spec.name)
    standing = look(plan, folder, given.resume, given.extend)
    if standing.finished:
        return _show_again(plan, folder, given, storage)
    if given.address is None:  # before the data, which may have to be fetched
        refuse_misfits(plan, local_resources(plan.uses_gpus), "this machine")
    data = check_data(plan)
    refuse_other_data(folder, data, standing.extended)
    return _run(plan, folder, given, storage, data, standing.extended)


def _show(plan: Plan, given: Launch, outlook: Outlook | None) -> None:
    """Print the plan; with --calibrate also what it will take, after a few steps of each arm."""
    here, where = local_resources(plan.uses_gpus), "this machine"
    if given.address is not None:
        where += f", for want of a look at {given.address}"
    costs: dict[str, Measured] = {}
    if given.calibrate:
        from sweeps import cluster

        check_data(plan)
        if given.address is None:
            refuse_misfits(plan, here, where)
        with logging_to(Path(os.devnull)):  # Ray's noise
            here = cluster.connect(given.address, count_gpus=plan.uses_gpus)
            if given.address is not None:
                where = f"the cluster at {given.address}"
                refuse_misfits(plan, here, where)
            costs = dict(cluster.measure_arms(plan, plan.arms))
            cluster.disconnect()
    shares = {arm: share_for(cost) for arm, cost in costs.items()}
    side_by_side = fits(plan, given.max_concurrent, here, shares)
    there = f"{here.cpu:g} CPU and {here.gpu:g} GPU on {where}"
    print(preview(plan, side_by_side, there, costs, outlook))


def _show_again(plan: Plan, folder: Path, given: Launch, storage: Storage) -> Outcome:
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
            notes.append(how_to_sync(folder, given.tracking_uri, f"{type(error).__name__}: {error}"))
    return Outcome(status_of(read_state(folder / JOURNAL)), folder, tuple(notes), storage, mirrored)


def _run(plan: Plan, folder: Path, given: Launch, storage: Storage, data: str, extended: bool) -> Outcome:
    """Run what is left of the sweep, and write the tables whatever happens."""
    from sweeps import cluster

    there = local_resources(plan.uses_gpus)
    if given.address is not None:
        there = cluster.connect(given.address, count_gpus=False)
        refuse_misfits(plan, there, f"the cluster at {given.address}")
    code = code_version(plan.spec.trainer)
    past = Past(storage.root, plan.spec.name, plan.trainer, code, data) if given.reuse else None
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
        conductor = Conductor(plan, journal, history, folder / "optuna.journal", past)
        mirror = Mirror(absolute_uri(given.tracking_uri), space, journal, history)
        journal.listeners.append(mirror)
        if plan.spec.max_checkpoint_gb is not None:
            journal.listeners.append(DiskBudget(checkpoints, plan.spec, conductor.state))
        mirror.start()
        ending, failures = "interrupted", Failures()
        with failures.noted("the sweep"):
            conductor.begin(version=__version__, code=code, libraries=_libraries())
            if unsent := storage.send(folder.name, NEEDED):  # before any checkpoint of it is there
                raise OSError(unsent)
            with Display(conductor, given.quiet):
                _run_trials(conductor, folder, given, checkpoints, there, signals)
            if conductor.finished:
                ending = "completed"
            elif conductor.out_of_budget and not signals.came():
                ending = "budget"
        with failures.noted("the journal"):
            conductor.finish(ending)
        with failures.noted("the tables"):
            write_results(folder, conductor.state, space)
        cluster.disconnect()
        trouble = mirror.close(MIRROR_TIMEOUT_S[ending])
        with failures.noted("the tables"):  # again, with the ids of runs that were made meanwhile
            write_results(folder, conductor.state, space)
        journal.close()
    status = SOME_FAILED if failures.texts else status_of(conductor.state)
    if not failures.texts and ending != "completed":
        status = BUDGET_SPENT if ending == "budget" else signals.exit_status
    notes = [*next_steps(conductor, folder, ending, failures), *worth_knowing(conductor, folder, given.reuse)]
    notes += [how_to_sync(folder, given.tracking_uri, trouble)] if trouble else []
    notes += where_to_look(mirror.link, given.tracking_uri)
    if given.notify is not None:
        notes += filter(None, [notify(given.notify, summary(conductor, folder, status, ending))])
    return Outcome(status, folder, tuple(notes), storage, mirrored=not trouble)


def _libraries() -> str:
    """What trials run on, with its versions: beside the code's, what a rerun needs."""
    found = (f"{name} {metadata.version(name)}" for name in ("torch", "numpy", "ray", "optuna"))
    return ", ".join([f"Python {platform.python_version()}", *found])


def _run_trials(
    conductor: Conductor, folder: Path, given: Launch, checkpoints: str, there: Resources, signals: Signals
) -> None:
    """Until all have ended, or a signal or the budget ends it."""
    from sweeps import cluster, engine

    plan = conductor.plan
    if given.address is None:
        cluster.connect(None, plan.uses_gpus)
    signals.install()  # again: Ray puts a handler of its own in front
    for arm, cost in cluster.measure_arms(plan, conductor.placement.to_measure(), signals.came):
        conductor.placement.measured(arm, cost)
    bound = max(fits(plan, given.max_concurrent, there, conductor.state.shares).values())
    with suppress(engine.Interrupted):
        engine.run(conductor, folder, checkpoints, bound, lambda: signals.came() or conductor.must_stop)
