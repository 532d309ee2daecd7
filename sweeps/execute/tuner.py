"""Runs the controller's trials with Ray Tune. Ray starts workers and places trials; the controller decides.

`sweeps.launch` calls `run`. Three adapters connect Ray to `decide.controller`: a Searcher gets the next trial
from it, a TrialScheduler passes it each report and stops trials, and a Callback tells it of starts and
failures. Each worker is a TrialActor (`execute.worker`). Ray's own state is deleted at the end; nothing is
ever restored from it.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeps.execute import cluster  # noqa: F401  before ray: it sets the variables that ray reads on import

# isort: split

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from sweeps.decide.controller import Controller
from sweeps.execute.failure import bounded, silence_reason
from sweeps.execute.trial import Payload
from sweeps.execute.trial_log import crash_in, last_words, read_attempt
from sweeps.execute.worker import TrialActor
from sweeps.plan.model import TrialPlan
from sweeps.record.state import LOST

logger = logging.getLogger(__name__)


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
            self._pass_warnings(trial, result)
            if result["outcome"]:  # a failure; Ray's next step ends the worker, and with it this Ray trial
                self._failed(_id(trial), result["outcome"], result["reason"], result["log"])
            else:
                continues = self._controller.report(_id(trial), dict(result["report"]))
        return self.CONTINUE if continues else self.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if result.get("outcome"):
            with self._first_error.kept():
                self._pass_warnings(trial, result)
                metrics = dict(result["report"])
                self._controller.ended(_id(trial), result["outcome"], result["reason"], metrics)

    def _pass_warnings(self, trial: Any, result: dict[str, Any]) -> None:
        for text in result["warnings"]:
            self._controller.warned(_id(trial), text)

    def _failed(self, trial_id: str, outcome: str, reason: str, log: str) -> None:
        controller = self._controller
        logger.error("%s: %s (the worker's process ends now)\n%s", trial_id, reason, log)
        if outcome == "failed":
            controller.failed(trial_id, reason, log=log)
        elif outcome == "misused" or not controller.placement.retry_with_larger_share(trial_id, reason):
            controller.ended(trial_id, "failed", reason, log=log)


class CallbackAdapter(_NotSaved, tune.Callback):
    """Tells the controller of each start of a trial, and of workers that died. Leaves Ray's loop, by an
    exception, on an interrupt or after an error in an adapter. `logs` is the folder of the trials' logs."""

    def __init__(
        self,
        controller: Controller,
        first_error: _FirstError,
        interrupted: Callable[[], bool],
        logs: Path,
    ) -> None:
        self._controller = controller
        self._first_error = first_error
        self._interrupted = interrupted
        self._logs = logs

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        with self._first_error.kept():
            self._controller.started(_id(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Ray has pickled the error into a folder that others may be able to write, and would read it there.
        trial.run_metadata.pickled_error_filename = None
        if trial.last_result.get("outcome"):  # a failure, after which the worker's process ended as it should
            return
        with self._first_error.kept():
            self._died(trial)

    def _died(self, trial: Any) -> None:
        """The worker's process or its node died, or the process could not be started. If the worker ended
        itself after a silence, that is the trainer's failure."""
        controller, trial_id = self._controller, _id(trial)
        text = read_attempt(self._logs / f"{trial_id}.log", controller.state.trials[trial_id].attempts)
        crash, limit = crash_in(text), controller.plan.spec.max_silence_s
        if limit is not None and crash.startswith("Timeout"):
            controller.failed(trial_id, silence_reason(limit), log=last_words(text))
        else:
            reason = f"the worker's process died: {crash}" if crash else _cause_of_death(trial)
            controller.failed(trial_id, reason, LOST, log=last_words(text))

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._first_error.error is not None:
            raise self._first_error.error
        if self._interrupted():
            raise Interrupted


def _id(trial: Any) -> str:
    return Payload.loads(trial.config["payload"]).trial_id


def _cause_of_death(trial: Any) -> str:
    """The last line of what Ray says of it, which has the worker's error or its exit."""
    try:
        text = Path(trial.error_file).read_text(errors="replace")
    except (OSError, TypeError):  # TypeError: Ray has no such file
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return bounded(lines[-1]) if lines else "the worker's process died"


def _payload(controller: Controller, trial: TrialPlan, checkpoints: str, logs: Path) -> Payload:
    spec = controller.plan.spec
    allocation = controller.placement.allocation(trial.trial_id)
    state = controller.state.trials[trial.trial_id]
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
        attempt=state.attempts + 1,
        journal_step=state.last_step,
        is_measured=trial.arm in controller.state.shares,
        max_silence_s=spec.max_silence_s,
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
                callbacks=[CallbackAdapter(controller, first_error, interrupted, logs)],
                verbose=0,
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
