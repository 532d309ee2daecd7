"""Runs the controller's trials with Ray Tune. Ray starts workers and places trials; the controller decides.

`sweeps.running` calls `run`. Three adapters connect Ray to `decide.controller`: a Searcher gets the next
trial from it, a TrialScheduler passes it each report and stops trials, and a Callback tells it of starts and
failures. Each worker is a TrialActor (`execute.worker`). Ray's own state is deleted at the end; nothing is
ever restored from it.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from sweeps.decide.controller import Controller
from sweeps.decide.placement import concurrency_by_arm
from sweeps.execute import cluster
from sweeps.execute.failure import bounded, silence_reason
from sweeps.execute.preflight import Preflight
from sweeps.execute.trial import Payload
from sweeps.execute.trial_log import crash_in, last_words, read_attempt
from sweeps.execute.worker import TrialActor
from sweeps.plan.model import TrialPlan
from sweeps.plan.resources import ClusterResources
from sweeps.record.secrets import without_secret

REFRESH_S = 5.0  # how often the nodes are read: some may have joined or left

logger = logging.getLogger(__name__)


class Interrupted(BaseException):
    """The sweep is to stop early. Raised between two steps of Ray's loop, so that each event is complete."""


class _NotSaved:
    """Pickles as an empty object: Ray pickles its parts into snapshots, which are never read."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Leave:
    """When and why Ray's loop is left: a limit, a signal, or the first error inside one of the adapters.

    After a signal no trial is started, and each that runs goes on to its next report, with which it may save
    a checkpoint, but for at most `grace_s` seconds in all. An error is kept until `check` raises it between
    two steps: raised inside a hook, Ray would treat some errors as a failure of the trial, and retry it.
    """

    def __init__(self, must_stop: Callable[[], bool], signalled: Callable[[], bool], grace_s: float) -> None:
        self.error: Exception | None = None
        self._must_stop = must_stop
        self._signalled = signalled
        self._grace_s = grace_s
        self._deadline: float | None = None
        self._training: set[str] = set()  # Ray's ids of trials that run; after a signal, that ran before it

    @contextmanager
    def kept(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.error = self.error or error

    @property
    def is_ending(self) -> bool:
        """Whether a signal was received."""
        if self._deadline is None and self._signalled():
            self._deadline = time.monotonic() + self._grace_s
        return self._deadline is not None

    def started(self, trial_id: str) -> None:
        if not self.is_ending:
            self._training.add(trial_id)

    def ended(self, trial_id: str) -> None:
        self._training.discard(trial_id)

    def check(self) -> None:
        """Raise the error that was kept, or Interrupted if it is time to leave."""
        if self.error is not None:
            raise self.error
        is_late = self.is_ending and time.monotonic() >= (self._deadline or 0.0)
        if self._must_stop() or is_late or (self.is_ending and not self._training):
            raise Interrupted


class _Nodes:
    """Shows the controller the nodes that are alive, and says how many trials they can run at once."""

    def __init__(
        self, controller: Controller, max_concurrent: int | None, preflight: Preflight | None
    ) -> None:
        self._controller = controller
        self._preflight = preflight
        self._max_concurrent = max_concurrent
        self._seen = 0.0
        self.refresh()

    def refresh(self) -> None:
        alive, problems = cluster.nodes(), dict[str, str]()
        nodes = alive
        if self._preflight is not None:
            nodes = self._preflight.passed(alive, problems.__setitem__)
        inspected = {node.id for node in nodes.nodes}
        self._controller.placement.uninspected = {node.id for node in alive.without(inspected).nodes}
        self._controller.see_nodes(nodes)
        for node in problems.keys() - self._controller.placement.excluded:
            self._controller.retries.exclude(node, problems[node])
        self._seen = time.monotonic()

    def concurrency(self) -> int:
        if time.monotonic() - self._seen >= REFRESH_S:
            self.refresh()
        plan, placement = self._controller.plan, self._controller.placement
        shares = self._controller.state.shares
        return max(concurrency_by_arm(plan, self._max_concurrent, placement.usable, shares).values())


class SearcherAdapter(_NotSaved, Searcher):
    """Gives Ray the controller's next trial, if fewer trials are with Ray than the nodes can run."""

    def __init__(
        self,
        controller: Controller,
        leave: Leave,
        nodes: _Nodes,
        payload: Callable[[TrialPlan], Payload],
    ) -> None:
        super().__init__()
        self._controller = controller
        self._leave = leave
        self._nodes = nodes
        self._payload = payload
        self._running: dict[str, str] = {}  # trials given to Ray: Ray's trial id -> ours

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        return True  # otherwise Ray wraps this searcher in its own limiter

    def suggest(self, trial_id: str) -> Any:
        self._leave.check()  # while nothing runs, Ray asks here for minutes between two steps
        with self._leave.kept():
            return self._suggest(trial_id)
        return None

    def _suggest(self, trial_id: str) -> Any:
        if self._leave.is_ending or len(self._running) >= self._nodes.concurrency():
            return None
        trial = self._controller.next_trial(exclude=self._running.values())
        if trial is None:
            is_stuck = not self._running and self._controller.only_budget_is_missing
            return Searcher.FINISHED if self._controller.finished or is_stuck else None
        self._running[trial_id] = trial.trial_id
        return {"payload": self._payload(trial).dumps()}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        self._running.pop(trial_id, None)
        self._leave.ended(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing: Ray's snapshots are never read."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep is resumed from its journal, not from Ray's state")


class SchedulerAdapter(_NotSaved, FIFOScheduler):
    """Passes reports, warnings and ends of trials to the controller, and stops trials that it stops."""

    def __init__(self, controller: Controller, leave: Leave) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._controller = controller
        self._leave = leave
        self._checked: ClusterResources | None = None  # the usable nodes of which waiting trials know

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Ray's own choice, after trials were taken back that waited while a node of theirs was excluded, or
        all of them have gone."""
        usable = self._controller.placement.usable
        if usable != self._checked:
            self._checked = usable
            with self._leave.kept():
                for trial in list(tune_controller.get_live_trials()):
                    if trial.status == trial.PENDING and not self._may_start(trial):
                        tune_controller.stop_trial(trial)  # the controller hands it out again
        return super().choose_trial_to_run(tune_controller)

    def _may_start(self, trial: Any) -> bool:
        payload, placement = Payload.loads(trial.config["payload"]), self._controller.placement
        if not placement.excluded.isdisjoint(payload.nodes):
            return False
        return placement.fits(payload.trial_id, payload.nodes)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        continues = True
        with self._leave.kept():
            self._pass_warnings(trial, result)
            if result["outcome"]:  # a failure; Ray's next step ends the worker, and with it this Ray trial
                self._failed(_id(trial), result["outcome"], result["reason"], result["log"])
                return self.CONTINUE
            report, is_copy = dict(result["report"]), result["repeated"]
            continues = self._controller.report(_id(trial), report, is_copy=is_copy)
        return self.CONTINUE if continues and not self._leave.is_ending else self.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if result.get("outcome"):
            with self._leave.kept():
                self._pass_warnings(trial, result)
                metrics = dict(result["report"])
                self._controller.ended(_id(trial), result["outcome"], result["reason"], metrics)

    def _pass_warnings(self, trial: Any, result: dict[str, Any]) -> None:
        for text in result["warnings"]:
            self._controller.warned(_id(trial), text)

    def _failed(self, trial_id: str, outcome: str, reason: str, log: str) -> None:
        controller = self._controller
        logger.error("%s: %s (the worker's process ends now)\n%s", trial_id, reason, log)
        if outcome == "lost":
            controller.lost(trial_id, reason, has_trained=False)
        elif outcome == "failed":
            controller.failed(trial_id, reason, log=log)
        elif outcome == "misused" or not controller.placement.retry_with_larger_share(trial_id, reason):
            controller.ended(trial_id, "failed", reason, log=log)


class CallbackAdapter(_NotSaved, tune.Callback):
    """Tells the controller of each start of a trial, and of workers that died, and leaves Ray's loop when it
    is time. `logs` is the folder of the trials' logs."""

    def __init__(self, controller: Controller, leave: Leave, nodes: _Nodes, logs: Path) -> None:
        self._controller = controller
        self._leave = leave
        self._nodes = nodes
        self._logs = logs

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        with self._leave.kept():
            self._leave.started(trial.trial_id)
            actor = trial.temporary_state.ray_actor
            self._controller.started(_id(trial), cluster.node_of(actor._actor_id.hex()))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Ray has pickled the error into a folder that others may be able to write, and would read it there.
        trial.run_metadata.pickled_error_filename = None
        if trial.last_result.get("outcome"):  # a failure, after which the worker's process ended as it should
            return
        with self._leave.kept():
            self._died(trial)

    def _died(self, trial: Any) -> None:
        """The worker's process or its node died, or the process could not be started. If the log says that
        the process crashed, or ended itself after a silence, that is the trainer's failure."""
        controller, payload = self._controller, Payload.loads(trial.config["payload"])
        trial_id = payload.trial_id
        text = read_attempt(self._logs / f"{trial_id}.log", payload.attempt)
        crash, limit = crash_in(text), controller.plan.spec.max_silence_s
        if limit is not None and crash.startswith("Timeout"):
            controller.failed(trial_id, silence_reason(limit), log=last_words(text))
        elif crash:
            controller.failed(trial_id, f"the worker's process died: {crash}", log=last_words(text))
        else:
            self._nodes.refresh()  # whether its node is still alive
            told = _told_by_ray(trial)
            has_started = controller.state.trials[trial_id].status == "running"
            cause, node = _cause_of_death(told), _node_in(told)
            controller.lost(trial_id, cause, node, last_words(text), has_trained=has_started)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._leave.check()


def _id(trial: Any) -> str:
    return Payload.loads(trial.config["payload"]).trial_id


def _told_by_ray(trial: Any) -> str:
    """What Ray says of the deaths of the trial's worker, the last one last; '' if it says nothing."""
    try:
        return Path(trial.error_file).read_text(errors="replace")
    except (OSError, TypeError):  # TypeError: Ray has no such file
        return ""


def _cause_of_death(told: str) -> str:
    """The last line of what Ray says of it, which has the worker's error or its exit."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return bounded(without_secret(lines[-1])) if lines else "the worker's process died"


def _node_in(told: str) -> str:
    """The id of the node of the worker that died; '' if Ray does not name the worker. It is not known from
    the trial's start where the worker could not be set up."""
    actors = re.findall(r"actor_id(?:=|: )([0-9a-f]{32})", told)
    return cluster.node_of(actors[-1]) if actors else ""


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
        nodes=controller.retries.nodes(trial.trial_id),
        attempt=state.attempts + 1,
        journal_step=state.last_step,
        is_measured=trial.arm in controller.state.shares,
        max_silence_s=spec.max_silence_s,
        factors=list(spec.ablate),
        tuned=list(spec.tune),
        sys_path=[path for path in sys.path if path],
    )


def run(
    controller: Controller,
    folder: Path,
    checkpoints: str,
    max_concurrent: int | None,
    signalled: Callable[[], bool],
    grace_s: float,
    preflight: Preflight | None,
) -> None:
    """Run all trials that are left. Ray must be connected.

    `folder` is the sweep's folder, `checkpoints` the folder or URL of its checkpoints; `max_concurrent`
    limits the trials at once, besides the space and the nodes. Raises Interrupted if the controller must
    stop, or after `signalled` has returned True and each trial that runs has reported once more, at most
    `grace_s` seconds later; and any error of the controller. With a `preflight`, nodes get trials that pass.
    """
    spec = controller.plan.spec
    nodes = _Nodes(controller, max_concurrent, preflight)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(max(1, nodes.concurrency()))
    logs = folder.resolve() / "logs"  # absolute, as workers run in another directory

    def payload(trial: TrialPlan) -> Payload:
        return _payload(controller, trial, checkpoints, logs)

    leave = Leave(lambda: controller.must_stop, signalled, grace_s)
    scratch = Path(tempfile.mkdtemp(prefix="sweep-ray-"))
    try:
        tune.Tuner(
            TrialActor,
            tune_config=tune.TuneConfig(
                search_alg=SearcherAdapter(controller, leave, nodes, payload),
                scheduler=SchedulerAdapter(controller, leave),
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
                callbacks=[CallbackAdapter(controller, leave, nodes, logs)],
                verbose=0,
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
