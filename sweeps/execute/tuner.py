"""Runs the controller's trials with Ray Tune. Ray starts workers and places trials; the controller decides.

`sweeps.launch` calls `run`. Three adapters connect Ray to `decide.controller`: a Searcher gets the next trial
from it, a TrialScheduler passes it each report and stops trials, and a Callback tells it of starts and
failures. Each worker is a TrialActor (`execute.worker`). Ray's own state is deleted at the end; nothing is
ever restored from it.
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

from sweeps.execute import cluster  # noqa: F401  before ray: it sets the variables that ray reads on import

# isort: split

from ray import exceptions, tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from sweeps.decide.controller import Controller
from sweeps.execute.worker import Payload, TrialActor
from sweeps.plan.model import TrialPlan
from sweeps.record.state import LOST

# The worker's process or its node died: no error of the trainer's function.
NOT_THE_TRAINER = (exceptions.RayActorError, exceptions.NodeDiedError, exceptions.WorkerCrashedError)


class Interrupted(BaseException):
    """The sweep is to stop early. Raised between two steps of Ray's loop, so that each event is complete."""


class _NotSaved:
    """Pickles as an empty object: Ray pickles its parts into snapshots, which are never read."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _FirstError:
    """Keeps the first error inside one of the adapters, until CallbackAdapter raises it between two steps.

    Raised inside a hook, Ray would treat some errors as a failure of the trial, and retry the trial.
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
    """Gives Ray the controller's next trial, if fewer than `concurrency` trials are with Ray."""

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
        self._running: dict[str, str] = {}  # trials given to Ray: Ray's trial id -> ours

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        return True  # otherwise Ray wraps this searcher in its own limiter

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
        """Saves nothing: Ray's snapshots are never read."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep is resumed from its journal, not from Ray's state")


class SchedulerAdapter(_NotSaved, FIFOScheduler):
    """Passes reports, warnings and ends of trials to the controller, and stops trials that it stops."""

    def __init__(self, controller: Controller, first_error: _FirstError) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._controller = controller
        self._first_error = first_error

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        continues = True
        with self._first_error.kept():
            if result["warning"]:
                self._controller.warned(_id(trial), result["warning"])
            continues = self._controller.report(_id(trial), dict(result["report"]))
        return self.CONTINUE if continues else self.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if result.get("outcome"):
            with self._first_error.kept():
                self._end(_id(trial), result["outcome"], result["reason"], dict(result["report"]))

    def _end(self, trial_id: str, outcome: str, reason: str, metrics: dict[str, float]) -> None:
        if outcome == "out_of_memory":
            if self._controller.placement.retry_with_larger_share(trial_id, reason):
                return
            outcome = "failed"
        self._controller.ended(trial_id, outcome, reason, metrics)


class CallbackAdapter(_NotSaved, tune.Callback):
    """Tells the controller of each start and failure of a trial. Leaves Ray's loop, by an exception, on an
    interrupt or after an error in an adapter."""

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
            error = _error(trial)
            self._controller.failed(
                _id(trial), _reason(error), LOST if isinstance(error, NOT_THE_TRAINER) else ""
            )

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._first_error.error is not None:
            raise self._first_error.error
        if self._interrupted():
            raise Interrupted


def _id(trial: Any) -> str:
    return Payload.loads(trial.config["payload"]).trial_id


def _error(trial: Any) -> Exception:
    error: Exception = pickle.loads(Path(trial.pickled_error_file).read_bytes())  # Ray has just written it
    return error


def _reason(error: Exception) -> str:
    """The last line of the trainer's error, without Ray's traceback around it."""
    cause = getattr(error, "cause", None) or error
    lines = [line for line in str(cause).splitlines() if line.strip()]
    return lines[-1].strip().removeprefix("RuntimeError: ") if lines else type(cause).__name__


def _payload(controller: Controller, trial: TrialPlan, checkpoints: str, logs: Path) -> Payload:
    spec = controller.plan.spec
    allocation = controller.placement.allocation(trial.trial_id)
    return Payload(
        trial_id=trial.trial_id,
        trainer=spec.trainer,
        config=trial.config,
        seed=trial.seed,
        checkpoints=f"{checkpoints}/{trial.trial_id}",
        log=str(logs / f"{trial.trial_id}.log"),
        metric=spec.objective.metric,
        mode=spec.objective.mode,
        cpu=allocation.cpu,
        gpu=allocation.gpu,
        journal_step=controller.state.trials[trial.trial_id].last_step,
        is_measured=trial.arm in controller.state.shares,
        factors=list(spec.ablate),
        tuned=list(spec.tune),
        sys_path=[path for path in sys.path if path],
    )


def run(
    controller: Controller, folder: Path, checkpoints: str, concurrency: int, interrupted: Callable[[], bool]
) -> None:
    """Run all trials that are left. Ray must be connected.

    `folder` is the sweep's folder, `checkpoints` the folder or URL of its checkpoints, `concurrency` the most
    trials at once. Raises Interrupted soon after `interrupted` returns True, and any error of the controller.
    """
    spec = controller.plan.spec
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(concurrency)
    logs = folder.resolve() / "logs"  # absolute, as workers run in another directory

    def payload(trial: TrialPlan) -> Payload:
        return _payload(controller, trial, checkpoints, logs)

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
                # The trial's worker writes checkpoints (sweeps.record.checkpoints); Ray writes none.
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                # The controller retries trials. Ray does not: it counts the death of a worker between two
                # trials as two failures, and the second one would end the trial too early.
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[CallbackAdapter(controller, first_error, interrupted)],
                verbose=0,
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
