"""From a search space to finished results: the course of one launch.

    load and plan -> refuse what cannot be run -> connect to Ray -> run -> write the tables

Everything that can be refused is refused before a file is written or a process started.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps import __version__
from sweeps.conductor import Conductor
from sweeps.console import Display
from sweeps.errors import SpecError
from sweeps.journal import Journal, read_journal
from sweeps.mlflow_store import absolute_uri, check_uri
from sweeps.plan import Plan, check_data, load_plan
from sweeps.preview import preview
from sweeps.process import Signals, locked, logging_to
from sweeps.resources import Resources, local_resources
from sweeps.results import rebuild, write_results
from sweeps.state import SweepState, read_state
from sweeps.tracking import Mirror, sync
from trm.yaml import YamlError, dump_yaml, load_yaml

OK, SOME_FAILED, BAD_INPUT = 0, 1, 2
logger = logging.getLogger(__name__)

MIRROR_TIMEOUT_S = {"completed": 120.0, "interrupted": 20.0}


@dataclass(frozen=True)
class Launch:
    """The arguments of one launch, as `run_sweep.py` takes them."""

    space: Path
    dry_run: bool = False
    resume: bool = False
    name: str | None = None
    storage: Path = Path("results")
    tracking_uri: str = "sqlite:///mlflow.db"
    address: str | None = None
    max_concurrent: int | None = None
    overrides: tuple[str, ...] = ()
    quiet: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a launch came to. `folder` is None where nothing was run."""

    status: int
    folder: Path | None = None
    notes: tuple[str, ...] = ()


def launch(given: Launch) -> Outcome:
    """Do what the arguments say. Raises SpecError for bad input, with nothing written."""
    if given.max_concurrent is not None and given.max_concurrent < 1:
        raise SpecError(f"--max-concurrent {given.max_concurrent}: must be 1 or more")
    check_uri(given.tracking_uri)
    plan = load_plan(given.space, given.overrides, given.name)
    folder = given.storage / plan.spec.name
    if given.dry_run:
        _show(plan, given)
        return Outcome(OK)
    if _is_done(plan, folder, given):
        return _show_again(folder, given)
    if given.address is None:  # before the data, which may have to be fetched
        _at_once(plan, given, _here(plan))
    data = check_data(plan)
    _refuse_other_data(folder / "sweep.yaml", data)
    return _run(plan, folder, given, data)


def _show(plan: Plan, given: Launch) -> None:
    here, wanted = _here(plan), plan.spec.resources
    why = f"{wanted.cpu:g} CPU and {wanted.gpu:g} GPU a trial; "
    why += f"{here.cpu:g} CPU and {here.gpu:g} GPU on this machine"
    if given.address:
        why += f", for want of a look at {given.address}"
    print(preview(plan, _bound(plan, given, here), why))


def _here(plan: Plan) -> Resources:
    return local_resources(count_gpus=plan.spec.resources.gpu > 0)


def _bound(plan: Plan, given: Launch, there: Resources) -> int:
    """Trials at once: as many as fit, and no more than asked for; 0 where not even one fits."""
    fits = there.concurrency(plan.spec.resources.cpu, plan.spec.resources.gpu)
    asked = given.max_concurrent if given.max_concurrent is not None else plan.spec.max_concurrent
    return fits if asked == "auto" else min(fits, int(asked))


def _at_once(plan: Plan, given: Launch, there: Resources) -> int:
    """As `_bound`. Raises SpecError where not even one trial fits."""
    bound, wanted = _bound(plan, given, there), plan.spec.resources
    if bound:
        return bound
    where = f"the cluster at {given.address}" if given.address else "this machine"
    name, asked, has = "cpu", wanted.cpu, there.cpu
    if wanted.gpu > there.gpu:
        name, asked, has = "gpu", wanted.gpu, there.gpu
    raise SpecError(
        f"{given.space}: resources.{name} is {asked:g} a trial, but {where} has {has:g}: lower it "
        f"(--set does not reach resources: edit the YAML), or run where there is more"
    )


def _is_done(plan: Plan, folder: Path, given: Launch) -> bool:
    """Whether the sweep has nothing left to run. Raises SpecError where the name is taken, or not there."""
    if not (folder / "sweep.yaml").exists():
        if given.resume:
            raise SpecError(f"--resume: there is no sweep in {folder}; launch it first, without --resume")
        return False
    there = _read_resolved(folder / "sweep.yaml")
    if there["hash"] != plan.hash:
        differences = "\n".join(f"  {line}" for line in plan.differences(there["identity"]))
        raise SpecError(
            f"{folder} holds another sweep of the name {plan.spec.name!r}:\n{differences}\n"
            f"choose another --name, or another --storage"
        )
    state = read_state(folder / "journal.jsonl")
    if state.finished == "completed":
        return True
    if not given.resume:
        left = sum(not trial.ended for trial in state.trials.values())
        raise SpecError(f"{folder} holds this sweep, unfinished ({left} trials to go); go on with --resume")
    return False


def _read_resolved(path: Path) -> dict[str, Any]:
    """What a sweep that was launched before came to. Raises SpecError where the file is damaged."""
    try:
        resolved = load_yaml(path)["resolved"]
        return {key: resolved[key] for key in ("hash", "identity", "data")}
    except (YamlError, KeyError, TypeError) as error:
        raise SpecError(
            f"{path}: is damaged ({error}): restore it, or choose another --name or --storage"
        ) from error


def _refuse_other_data(path: Path, data: str) -> None:
    """Raise SpecError where the sweep began on other data: files can change under their names."""
    if path.exists() and (there := _read_resolved(path)["data"]) != data:
        raise SpecError(
            f"{path}: the sweep began on other data (hash {there or 'none'} there, {data or 'none'} here): "
            f"restore the files, or choose another --name"
        )


def _show_again(folder: Path, given: Launch) -> Outcome:
    """A finished sweep: its tables anew, as a crash may have come before they were written; with --resume
    also what MLflow lacks."""
    rebuild(folder)
    notes = ["This sweep is finished; its report again."]
    if given.resume:
        try:
            sync(folder, given.tracking_uri)
        except Exception as error:
            notes.append(_how_to_sync(folder, given, f"{type(error).__name__}: {error}"))
    return Outcome(_status_of(read_state(folder / "journal.jsonl")), folder, tuple(notes))


def _run(plan: Plan, folder: Path, given: Launch, data: str) -> Outcome:
    """Run what is left of the sweep, and write the tables whatever happens."""
    from sweeps import engine

    there = engine.connect(given.address, count_gpus=False) if given.address else _here(plan)
    bound = _at_once(plan, given, there)
    history = list(read_journal(folder / "journal.jsonl"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(
            f"--storage {given.storage}: {folder} cannot be made ({error.strerror}): give another folder"
        ) from error
    with locked(folder), logging_to(folder / "logs" / "driver.log"), Signals() as signals:
        space = _write_space(plan, folder, data)
        journal = Journal(folder / "journal.jsonl")
        conductor = Conductor(plan, journal, history, folder / "optuna.journal")
        mirror = Mirror(absolute_uri(given.tracking_uri), space, journal, history)
        journal.listeners.append(mirror)
        mirror.start()
        ending, failures = "interrupted", _Failures()
        with failures.noted("the sweep"):
            conductor.begin(version=__version__)
            with Display(conductor, given.quiet):
                if given.address is None:
                    engine.connect(None, count_gpus=plan.spec.resources.gpu > 0)
                signals.install()  # again: Ray puts a handler of its own in front
                with suppress(engine.Interrupted):
                    engine.run(conductor, folder, bound, signals.came)
            ending = "completed" if conductor.finished else "interrupted"
        with failures.noted("the journal"):
            conductor.finish(ending)
        with failures.noted("the tables"):
            write_results(folder, conductor.state, space)
        engine.disconnect()
        trouble = mirror.close(MIRROR_TIMEOUT_S[ending])
        with failures.noted("the tables"):  # again, with the ids of runs that were made meanwhile
            write_results(folder, conductor.state, space)
        journal.close()
    status = _status_of(conductor.state)
    if failures.texts:
        status = SOME_FAILED
    elif ending == "interrupted":
        status = signals.exit_status
    return Outcome(status, folder, tuple(_notes(given, folder, mirror, trouble, ending, failures)))


@dataclass
class _Failures:
    """What went wrong outside of the trials: of Ray, of a part of ours, of a full disk. What is recorded
    stays, and the launch comes to its end."""

    texts: list[str] = field(default_factory=list)

    @contextmanager
    def noted(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            logger.exception("%s", what)
            reason = str(error).strip().splitlines()[-1:] or [""]
            self.texts.append(f"{what} broke off ({type(error).__name__}: {reason[0]})")


def _write_space(plan: Plan, folder: Path, data: str) -> dict[str, Any]:
    """sweep.yaml, once; afterwards it is only read."""
    path = folder / "sweep.yaml"
    if not path.exists():
        space = plan.resolved()
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        space["resolved"] |= {"data": data, "version": __version__, "created": now}
        staging = path.with_suffix(".tmp")
        staging.write_text(dump_yaml(space), encoding="utf-8")
        staging.replace(path)
    space = load_yaml(path)
    assert isinstance(space, dict)
    return space


def _status_of(state: SweepState) -> int:
    failed = any(trial.status == "failed" for trial in state.trials.values())
    return SOME_FAILED if failed else OK


def _notes(
    given: Launch, folder: Path, mirror: Mirror, trouble: str, ending: str, failures: _Failures
) -> Iterator[str]:
    """The last lines: what to do next, and where to look."""
    for text in dict.fromkeys(failures.texts):
        yield f"{text[0].upper()}{text[1:]}; see {folder / 'logs' / 'driver.log'}."
    if failures.texts:
        yield "What was recorded stays. Mend that, and go on with the same command and --resume."
    elif ending == "interrupted":
        yield "Interrupted. Go on with the same command and --resume."
    if trouble:
        yield _how_to_sync(folder, given, trouble)
    if mirror.link:
        yield f"MLflow: {mirror.link}"
        if "://" in given.tracking_uri and not given.tracking_uri.startswith("http"):
            yield f"  (first: mlflow ui --backend-store-uri {absolute_uri(given.tracking_uri)})"


def _how_to_sync(folder: Path, given: Launch, trouble: str) -> str:
    return (
        f"MLflow does not have all of it ({trouble}). Nothing is lost; when the store works again: "
        f"python -m sweeps.tracking sync {folder} --tracking-uri {given.tracking_uri}"
    )
