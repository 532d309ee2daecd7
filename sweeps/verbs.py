"""The verbs that act on a recorded sweep: stop, retry, report, sync and best. Each prints what it did.

All raise SpecError where they cannot act.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sweeps.observe.progress_text import tied_text
from sweeps.process import is_locked, locked
from sweeps.record.checkpoints import step_of
from sweeps.record.file_names import JOURNAL, PRIMARY, SPACE
from sweeps.record.journal import Journal
from sweeps.record.mlflow_file import DEFAULT_STORE, FILE, MlflowFile
from sweeps.record.secrets import hides_secret, without_secret
from sweeps.record.state import ASKED, FINISHED, RUNNING, SweepState, TrialState, read_state
from sweeps.record.storage import Storage
from sweeps.space.errors import SpecError
from sweeps.sweep_status import SweepReader, check_known, refuse_running

POLL_S = 0.2
REMOTE_POLL_S = 2.0  # of a launch on another machine, whose files are at a URL


def stop(name: str, location: str, timeout: float, program: str) -> int:
    """Ask the launch that works on the sweep to end resumable, and wait for it. Returns the exit status: 1
    if it has not ended after `timeout` seconds."""
    storage, reader = _open(name, location)
    folder = storage.root / name
    if not timeout >= 0:  # nor NaN
        raise SpecError(f"--timeout {timeout:g}: give the seconds to wait, 0 or more")
    if reader.status().state != RUNNING:
        raise SpecError(f"{name} does not run: there is nothing to stop")
    try:
        storage.ask_to_stop(name)
    except OSError as error:
        raise SpecError(f"{name}: cannot be asked to stop ({error.strerror or error}): its folder must be "
                        f"writable") from error  # fmt: skip
    print(f"Asked {name} to stop; waiting for it to end, {timeout:g} s at the most.", flush=True)
    deadline = time.monotonic() + timeout
    while (status := reader.status()).state == RUNNING:
        if time.monotonic() >= deadline:
            print(f"It has not ended yet. It was asked, and ends once its trials do: {program} status {name}")
            return 1
        time.sleep(POLL_S if is_locked(folder) else REMOTE_POLL_S)
    storage.withdraw_stop(name)  # it may have ended by itself
    ended = f"{status.progress.ended} of {status.progress.planned} trials have ended"
    print(f"{name} has stopped ({status.state}); {ended}.")
    if status.state != FINISHED:
        print(f"Continue: {_command_to_resume(program, storage, name)}")
    return 0


def retry(name: str, location: str, program: str) -> int:
    """Plan the failed trials again. Diverged ones stay: that is their outcome. Returns the exit status."""
    storage, _ = _open(name, location)
    with _held(storage, name) as folder:
        state = read_state(folder / JOURNAL)
        failed = [trial for trial in state.trials.values() if trial.status == "failed"]
        if failed:
            journal = Journal(folder / JOURNAL)
            for trial in failed:
                more = {"reselect": True} if _was_left_without_draws(state, trial) else {}
                why = {"reason": trial.reason, "cause": ASKED}
                journal.append("retry", trial_id=trial.trial_id, **why, **more)
            journal.close()
            if error := storage.send(name, PRIMARY):
                raise SpecError(error)
    diverged = sum(trial.status == "diverged" for trial in state.trials.values())
    kept = f" {diverged} diverged: that is an outcome, and stays." if diverged else ""
    if not failed:
        print(f"{name}: no trial has failed.{kept}")
        return 0
    print(f"{name}: {len(failed)} failed trial{'s' * (len(failed) > 1)} planned again.{kept}")
    if any(trial.phase == "evidence" for trial in failed) and state.looks:
        print("Looks that were taken stand as recorded; the report says which results carry no claim now.")
    print(f"Run them: {_command_to_resume(program, storage, name)}")
    return 0


def _was_left_without_draws(state: SweepState, trial: TrialState) -> bool:
    """Whether no draw of the trial's arm could be selected, so that it is selected from again."""
    return trial.phase == "search" and state.selected.get(trial.arm) == []


def _command_to_resume(program: str, storage: Storage, name: str) -> str:
    """The command, with the MLflow store that the sweep has."""
    space = storage.root / name / SPACE
    if not space.exists():  # it is at a URL, and was launched on another machine
        return "the command that launched it, with --resume"
    store = MlflowFile.read(space.parent).store
    options = ["--resume", "--storage", without_secret(storage.location)]
    options += ["--tracking-uri", store] if store else []
    return f"{program} {shlex.join(['run', str(space), *options])}"


def report(name: str, location: str) -> int:
    """Write the tables and the report of what is recorded now. Returns the exit status."""
    from analysis.sweep import AnalysisError
    from sweeps.report import made_in

    storage, reader = _open(name, location)
    folder = storage.folder(name)
    was_running = reader.status().state == RUNNING
    try:
        page = _write_report(folder, reader, lambda: bool(storage.runs_elsewhere(name)))
    except (AnalysisError, OSError) as error:
        raise SpecError(f"no report of {name}: {error}") from error
    if was_running or reader.status().state == RUNNING:
        pass  # the launch uploads its own, which are newer
    elif problem := storage.send(name, made_in(folder)):
        raise SpecError(problem)
    print(page)
    return 0


def _write_report(folder: Path, reader: SweepReader, runs_elsewhere: Callable[[], bool]) -> Path:
    """Write them. A launch that has ended, or is about to, writes its own: what was made beside it may have
    taken the place of that, and is made again when it has let go of the folder. One that has not begun yet,
    after an earlier one that ended, looks the same: it is waited for too."""
    from sweeps.record.tables import rebuild
    from sweeps.report import write, write_beside_a_launch

    is_told = False
    while is_locked(folder):
        if _has_finished(reader):
            if not is_told:
                print(
                    f"{folder.name}: waiting for a launch that is about to begin or to end", file=sys.stderr
                )
            is_told = True
            time.sleep(POLL_S)
        else:
            page = write_beside_a_launch(folder)
            if not _has_finished(reader):
                return page
    with locked(folder):
        is_running = runs_elsewhere()
        rebuild(folder, is_running)
        page = write(folder)
        if is_running:
            rebuild(folder)  # as beside a launch here
        return page


def _has_finished(reader: SweepReader) -> bool:
    """Whether the last launch has recorded its end; it writes its tables after that."""
    reader.status()
    return bool(reader.state.finished)


def sync(name: str, location: str, tracking_uri: str | None) -> int:
    """Write the whole journal and the report to MLflow: to the store that the sweep has, if `tracking_uri` is
    None. Returns the exit status."""
    from analysis.sweep import AnalysisError
    from sweeps.observe.mlflow_runs import check_uri
    from sweeps.observe.mlflow_writer import sync as write_to_mlflow
    from sweeps.record.tables import rebuild
    from sweeps.report import made_in, write

    if tracking_uri is not None:
        check_uri(tracking_uri)
    storage, _ = _open(name, location)
    with _held(storage, name) as folder:
        uri = _store_of(name, folder) if tracking_uri is None else tracking_uri
        rebuild(folder)
        with suppress(AnalysisError):  # no trial has completed
            write(folder)
        try:
            refused = write_to_mlflow(folder, uri, storage.checkpoints(name))
        except Exception as error:  # each store raises its own kinds
            reason = " ".join(without_secret(str(error), uri).split())
            raise SpecError(f"{name}: MLflow could not be written ({reason})") from error
        if problem := storage.send(name, [FILE, *made_in(folder)]):
            raise SpecError(problem)
    for text in refused:
        print(f"MLflow: {text}")
    print(f"{name} is in MLflow, {without_secret(uri)}")
    return 0


def _store_of(name: str, folder: Path) -> str:
    """The URI of the MLflow store that the sweep has; of one that has none, the default."""
    store = MlflowFile.read(folder).store
    if hides_secret(store):
        raise SpecError(f"{name} is in MLflow, {store}: give --tracking-uri with the password")
    return store or DEFAULT_STORE


def best(name: str, location: str) -> int:
    """Print the checkpoint of the best arm's best trial. Returns the exit status."""
    storage, reader = _open(name, location)
    progress = reader.status().progress
    arm, metric = progress.best, progress.metric
    values = {
        trial.trial_id: found[0]
        for trial in reader.state.trials.values()
        if arm is not None and trial.arm == arm.name and trial.status == "completed"
        if not arm.is_evidence or reader.state.phase_of(trial) == "evidence"
        if (found := trial.best(metric, progress.mode)) is not None
    }
    if arm is None:
        raise SpecError(f"{name}: no trial has reported {metric} yet, so that no arm leads: see status")
    if not values:
        raise SpecError(
            f"{name}: {arm.name} leads, but none of its trials has completed with a value: try again when "
            f"one has (status shows them)"
        )
    phase = "evidence" if arm.is_evidence else "search"
    choose = max if progress.mode == "max" else min
    trial = reader.state.trials[choose(values, key=lambda trial_id: values[trial_id])]
    checkpoint = _checkpoint_of(storage, name, trial, metric, progress.mode)
    print(
        f"{arm.name}{tied_text(progress)}: its best {phase} trial by {metric} is {trial.trial_id}, with "
        f"{values[trial.trial_id]:g}. It was picked for that: this is not the arm's value."
    )
    print(checkpoint)
    return 0


def _checkpoint_of(storage: Storage, name: str, trial: TrialState, metric: str, mode: str) -> str:
    """The folder or URL of the trial's best checkpoint that was kept."""
    source, slash, trial_id = trial.reused_from.rpartition("/")
    owner = source if slash else name
    folder = f"{storage.checkpoints(owner)}/{trial_id or trial.trial_id}"
    sign = 1.0 if mode == "max" else -1.0
    steps = {step_of(each): each for each in storage.entries(folder) if step_of(each) is not None}
    scored = [
        (sign * trial.reports[step][metric], step)
        for step in steps
        if step is not None and metric in trial.reports.get(step, {})
    ]
    if not steps:
        raise SpecError(
            f"{name}: {trial.trial_id} has no checkpoint in {without_secret(folder)}: its trainer reported "
            f"none, or it was deleted (max_checkpoint_gb, or by hand)"
        )
    step = max(scored)[1] if scored else max(step for step in steps if step is not None)
    return f"{without_secret(folder)}/{steps[step]}"


def _open(name: str, location: str) -> tuple[Storage, SweepReader]:
    storage = Storage(location)
    check_known(storage, name)
    return storage, SweepReader(storage, name)


@contextmanager
def _held(storage: Storage, name: str) -> Iterator[Path]:
    """The sweep's folder, held so that no launch works on it."""
    refuse_running(storage, name)
    folder = storage.folder(name)
    with locked(folder):
        yield folder
