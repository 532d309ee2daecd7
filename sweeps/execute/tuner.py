"""Ray Tune behind the conductor: Ray places trials on processors and runs them, the conductor decides.

A Searcher hands out the trials, a TrialScheduler passes reports on and stops trials, a Callback notes starts
and looks for an interrupt. Ray's own state is thrown away at the end; nothing is ever restored from it.
"""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeps.execute import cluster  # noqa: F401  first, as it says how Ray is to be loaded

# isort: split

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from sweeps.decide.controller import Controller
from sweeps.execute.worker import Payload, TrialActor
from sweeps.plan.model import TrialPlan


class Interrupted(BaseException):
    """A signal asked for the end. Raised between two steps of Ray's loop: no event is half written."""


class _NotSaved:
    """Ray pickles its parts into snapshots of its own state, which nobody reads: they are left empty."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _FirstError:
    """The first error of a part of ours, kept until Ray's loop can be left with it.

    Raised inside a hook, some of Ray's code would take it for the trial's failure, and try that trial again.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.error = self.error or error


class SearcherAdapter(_NotSaved, Searcher):
    """Ray asks, the conductor answers with a trial, as long as fewer than `concurrency` run."""

    def __init__(
        self,
        controller: Controller,
        first_error: _FirstError,
        concurrency: int,
        payload: Callable[[TrialPlan], Payload],
    ) -> None:
        super().__init__()
        self._controller = controller
        self._first_error = first_error
        self._concurrency = concurrency
        self._payload = payload
        self._running: dict[str, str] = {}  # what Ray has in its hands: its name for a trial -> ours

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        return True  # or Ray would wrap this in a limiter of its own

    def suggest(self, trial_id: str) -> Any:
        with self._first_error.kept():
            return self._suggest(trial_id)
        return None

    def _suggest(self, trial_id: str) -> Any:
        if len(self._running) >= self._concurrency:
            return None
        trial = self._controller.next_trial(exclude=self._running.values())
        if trial is None:
            is_over = self._controller.finished or (self._controller.out_of_budget and not self._running)
            return Searcher.FINISHED if is_over else None
        self._running[trial_id] = trial.trial_id
        return {"payload": self._payload(trial).dumps()}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        self._running.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Ray's snapshot; never read."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep goes on from its journal, not from Ray's state")


class SchedulerAdapter(_NotSaved, FIFOScheduler):
    """Passes what a trial says on to the conductor."""

    def __init__(self, controller: Controller, first_error: _FirstError) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._controller = controller
        self._first_error = first_error

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        go_on = True
        with self._first_error.kept():
            if result["warning"]:
                self._controller.warned(_id(trial), result["warning"])
            go_on = self._controller.report(_id(trial), dict(result["report"]))
        return self.CONTINUE if go_on else self.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if result.get("outcome"):
            with self._first_error.kept():
                self._end(_id(trial), result["outcome"], result["reason"], dict(result["report"]))

    def _end(self, trial_id: str, outcome: str, reason: str, metrics: dict[str, float]) -> None:
        if outcome == "out_of_memory":
            if self._controller.placement.enlarge(trial_id, reason):
                return
            outcome = "failed"
        self._controller.ended(trial_id, outcome, reason, metrics)


class CallbackAdapter(_NotSaved, tune.Callback):
    """Notes each start and each failure of a trial, and leaves Ray's loop when a signal came."""

    def __init__(
        self, controller: Controller, first_error: _FirstError, interrupted: Callable[[], bool]
    ) -> None:
        self._controller = controller
        self._first_error = first_error
        self._interrupted = interrupted

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        with self._first_error.kept():
            self._controller.started(_id(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        with self._first_error.kept():
            self._controller.failed(_id(trial), _reason(trial))

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._first_error.error is not None:
            raise self._first_error.error
        if self._interrupted():
            raise Interrupted


def _id(trial: Any) -> str:
    return Payload.loads(trial.config["payload"]).trial_id


def _reason(trial: Any) -> str:
    """The trainer's own words, without Ray's traceback around them."""
    error = pickle.loads(Path(trial.pickled_error_file).read_bytes())  # where Ray has just put it
    cause = getattr(error, "cause", None) or error
    lines = [line for line in str(cause).splitlines() if line.strip()]
    return lines[-1].strip().removeprefix("RuntimeError: ") if lines else type(cause).__name__


def run(
    controller: Controller, folder: Path, checkpoints: str, concurrency: int, interrupted: Callable[[], bool]
) -> None:
    """Run all that is left of a sweep. Ray must be connected.

    Raises Interrupted, and whatever a part of ours raised; Ray's loop has been left then.
    """
    spec, folder = controller.plan.spec, folder.resolve()  # workers run elsewhere
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(concurrency)

    def payload(trial: TrialPlan) -> Payload:
        given = controller.placement.of(trial.trial_id)
        return Payload(
            trial_id=trial.trial_id,
            trainer=spec.trainer,
            config=trial.config,
            seed=trial.seed,
            checkpoints=f"{checkpoints}/{trial.trial_id}",
            log=str(folder / "logs" / f"{trial.trial_id}.log"),
            metric=spec.objective.metric,
            mode=spec.objective.mode,
            cpu=given.cpu,
            gpu=given.gpu,
            known_step=controller.state.trials[trial.trial_id].last_step,
            is_measured=trial.arm in controller.state.shares,
            sys_path=[path for path in sys.path if path],
        )

    first_error = _FirstError()
    scratch = Path(tempfile.mkdtemp(prefix="sweep-ray-"))
    try:
        tune.Tuner(
            TrialActor,
            tune_config=tune.TuneConfig(
                search_alg=SearcherAdapter(controller, first_error, concurrency, payload),
                scheduler=SchedulerAdapter(controller, first_error),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=_id,
                trial_dirname_creator=_id,
            ),
            run_config=tune.RunConfig(
                name=spec.name,
                storage_path=str(scratch),
                # Checkpoints are the trial's own business (sweeps.record.checkpoints); Ray makes none.
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                # Trying again is the conductor's: when a worker dies between two trials Ray takes its death
                # for two failures, the second of which ends the trial whatever tries there are left.
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[CallbackAdapter(controller, first_error, interrupted)],
                verbose=0,
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
