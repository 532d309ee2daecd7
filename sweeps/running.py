"""Runs the trials of a plan that are left, with all that goes on beside them.

    connect to the cluster -> journal and controller -> trials on Ray -> tables -> MLflow's last events

`sweeps.launch` calls `Run.to_its_end`, under the lock of the sweep's folder. `decide.controller` chooses
trials and stops them, `execute.tuner` runs them on Ray, `observe` shows progress and writes MLflow. What
follows the trials is done even if some part fails.
"""

from __future__ import annotations

import platform
import signal
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.decide.controller import Controller
from sweeps.decide.placement import check_fits, gpus
from sweeps.decide.reuse import ReusableTrials, code_version
from sweeps.observe.console import Display
from sweeps.observe.mlflow_process import MlflowProcess
from sweeps.observe.notify import FirstFailure, notify, webhook
from sweeps.observe.progress import Tracker
from sweeps.observe.summary import (
    BUDGET_SPENT,
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
from sweeps.plan.model import Plan
from sweeps.plan.resources import usable_cores
from sweeps.process import Signals, logging_to
from sweeps.record.disk import DiskBudget
from sweeps.record.file_names import JOURNAL, PRIMARY
from sweeps.record.folder import write_space
from sweeps.record.journal import Event, Journal, read_journal
from sweeps.record.mlflow_file import MlflowFile
from sweeps.record.provenance import commit, hardware
from sweeps.record.state import SweepState, read_state
from sweeps.record.stop_request import StopRequest
from sweeps.record.storage import Storage
from sweeps.record.tables import write_results
from trm import __version__

if TYPE_CHECKING:  # it imports ray, for which a preview need not wait
    from sweeps.execute.preflight import Preflight


@dataclass(frozen=True)
class Stop:
    """What tells a launch to end in order: a signal, or a request by `stop`."""

    signals: Signals
    request: StopRequest

    def received(self) -> bool:
        return self.signals.received() or self.request.received()

    @property
    def exit_status(self) -> int:
        """128 + the signal's number; a request counts as SIGTERM."""
        return self.signals.exit_status if self.signals.received() else 128 + signal.SIGTERM


@dataclass(frozen=True)
class Run:
    """A plan whose trials are to run in `folder`. `data` are the hashes of its data; `extended`: the plan
    adds to the recorded sweep."""

    plan: Plan
    folder: Path
    options: LaunchOptions
    storage: Storage
    stop: Stop
    data: str
    extended: bool

    def to_its_end(self, at_end: ExitStack) -> Outcome:
        """Run the trials that are left, and write the tables. What must end with the launch, even after an
        error, is put into `at_end`. Raises SpecError if the cluster cannot run the plan; nothing has been
        written then."""
        plan, folder, options, failures = self.plan, self.folder, self.options, Failures()
        code = code_version(plan.spec.trainer)
        with self.stop.signals:
            preflight = self._join_cluster(at_end)
            reusable = None
            if options.reuse:
                reusable = ReusableTrials(self.storage, plan.spec.name, plan.trainer, code, self.data)
            history = list(read_journal(folder / JOURNAL))
        with (
            logging_to(folder / "logs" / "driver.log"),
            self.storage.uploading(folder.name),
            self.stop.signals,
        ):
            space = write_space(plan, folder, self.data, self.extended)
            journal = Journal(folder / JOURNAL)
            controller = Controller(plan, journal, history, reusable)
            writer = MlflowProcess(folder, options.tracking_uri, self._checkpoints)
            at_end.callback(writer.close)
            tracker = self._listen(journal, controller, space, history)
            ending, mlflow_error = "interrupted", ""
            with failures.catch("the sweep"):
                display = Display(tracker, options.quiet, lambda: writer.link, lambda: controller.waits_for)
                ending = self._run_until_end(controller, display, code, preflight)
            if controller.retries.gave_up:
                failures.texts.append(controller.retries.gave_up)
            with failures.catch("the journal"):
                controller.finish(ending)
            with failures.catch("the tables"):
                write_results(folder, _recorded(controller, folder, failures), space)
            with failures.catch("the end of Ray"):
                _disconnect()
            with failures.catch("the wait for MLflow"):
                mlflow_error = writer.drain()
            with failures.catch("the tables"):  # again, with the ids of MLflow runs created in the meantime
                write_results(folder, _recorded(controller, folder, failures), space)
            with failures.catch("the journal"):
                journal.close()

        def end_mlflow() -> list[str]:
            error = mlflow_error or writer.attach()
            hint = [sync_hint(folder.name, self.storage, options.tracking_uri, error)] if error else []
            found = MlflowFile.read(folder)
            return [*hint, *refused_by_mlflow(found.notes), *mlflow_hint(found)]

        status = self._exit_status(controller, ending, failures)
        notes = self._notes(controller, ending, failures)
        if options.notify is not None:
            error = notify(webhook(options.notify), summary(controller, folder, status, ending))
            notes += [error] if error else []
        return Outcome(status, folder, tuple(notes), end_mlflow)

    @property
    def _checkpoints(self) -> str:
        return self.storage.checkpoints(self.plan.spec.name)

    def _join_cluster(self, at_end: ExitStack) -> Preflight | None:
        """Connect to the cluster at `--address`, if one is given, and inspect its nodes."""
        from sweeps.execute import cluster
        from sweeps.execute.preflight import Preflight

        @at_end.push
        def disconnect_after_error(kind: type[BaseException] | None, *error: object) -> None:
            if kind is not None:
                _disconnect()

        address = self.options.address
        if address is None:
            return None
        available = cluster.connect(address, count_gpus=False)
        self.stop.signals.install()  # again, as Ray has installed its own handlers
        check_fits(self.plan, available, f"the cluster at {address}")
        preflight = Preflight(self.plan, self._checkpoints, self.data)
        preflight.wait(available, address, self.stop.signals.received)
        return preflight

    def _listen(
        self, journal: Journal, controller: Controller, space: dict[str, Any], history: list[Event]
    ) -> Tracker:
        """Let all that follows the journal listen to it. Returns what the display shows."""
        tracker = Tracker(controller.state, space)
        for event in history:
            tracker.apply(event)
        journal.listeners.append(tracker.apply)
        if self.options.notify is not None:
            journal.listeners.append(FirstFailure(webhook(self.options.notify), self.plan.spec.name))
        if self.plan.spec.max_checkpoint_gb is not None:
            journal.listeners.append(DiskBudget(self._checkpoints, self.plan.spec, controller.state))
        return tracker

    def _run_until_end(
        self, controller: Controller, display: Display, code: str, preflight: Preflight | None
    ) -> str:
        """Run the sweep. Returns how it ended: "completed", "budget" or "interrupted"."""
        trainer, on_gpu = self.plan.spec.trainer, any(gpus(arm, {}) for arm in self.plan.arms)
        told = {"hardware": hardware(usable_cores(), on_gpu), "commit": commit(trainer)}
        controller.begin(version=__version__, code=code, libraries=_libraries(), **told)
        if error := self.storage.send(self.folder.name, PRIMARY):  # before the first checkpoint is uploaded
            raise OSError(error)
        with display:
            self._run_trials(controller, preflight)
        if controller.finished:
            return "completed"
        is_stopped = self.stop.received() or controller.retries.gave_up
        return "budget" if controller.out_of_budget and not is_stopped else "interrupted"

    def _run_trials(self, controller: Controller, preflight: Preflight | None) -> None:
        """Run trials until all have ended, the launch is told to end, or the budget is spent."""
        from sweeps.execute import cluster, tuner

        options, stop, placement = self.options, self.stop, controller.placement
        if options.address is None:
            cluster.connect(None, self.plan.uses_gpus)
            stop.signals.install()  # again, as Ray has installed its own handlers
        for arm, cost in cluster.measure_arms(self.plan, placement.arms_to_measure(), stop.received):
            placement.record_measurement(arm, cost)
        with suppress(tuner.Interrupted):
            tuner.run(
                controller,
                self.folder,
                self._checkpoints,
                options.max_concurrent,
                stop.received,
                options.grace,
                preflight,
            )

    def _exit_status(self, controller: Controller, ending: str, failures: Failures) -> int:
        if failures.texts:
            return SOME_FAILED
        if ending == "completed":
            return status_of(controller.state)
        return BUDGET_SPENT if ending == "budget" else self.stop.exit_status

    def _notes(self, controller: Controller, ending: str, failures: Failures) -> list[str]:
        """The messages that follow the report."""
        return [
            *next_steps(controller, self.folder, ending, failures),
            *warnings(controller.state, self.folder),
            *(reused(controller.state) if self.options.reuse else ()),
        ]


def _recorded(controller: Controller, folder: Path, failures: Failures) -> SweepState:
    """The sweep's state by its journal: an event that could not be synced is not there, and the controller
    may have taken it in."""
    return read_state(folder / JOURNAL) if failures.texts else controller.state


def _disconnect() -> None:
    from sweeps.execute import cluster

    cluster.disconnect()


def _libraries() -> str:
    """The versions that a rerun needs besides the code's own: "Python 3.11.9, torch 2.9.1, ..."."""
    versions = (f"{name} {metadata.version(name)}" for name in ("torch", "numpy", "ray", "optuna"))
    return ", ".join([f"Python {platform.python_version()}", *versions])
