"""Decides which trial runs next, which trial stops, and which draws of the search are repeated as evidence.

`sweeps.running` builds the controller. `sweeps.execute.tuner` asks it for trials (`next_trial`) and tells it
what happened (`started`, `report`, `failed`, `lost`, `ended`); it does not know Ray. It calls `Stopping` for
early stopping, `Placement` for GPU shares, `Retries` for trials that were lost with their worker or node,
`TPESearch` for draws that depend on results, and `BudgetUsage` for limits. Every change is an event in the
journal, so a controller that is built from an old journal continues that sweep.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from sweeps.decide.budget import BudgetUsage
from sweeps.decide.looks import EvidenceLooks
from sweeps.decide.placement import Placement
from sweeps.decide.retries import Retries
from sweeps.decide.reuse import ReusableTrials
from sweeps.decide.search import TPESearch
from sweeps.decide.selection import FEWEST_TO_SMOOTH, DrawResult, ranked, smoothed
from sweeps.decide.stopping import Stopping
from sweeps.plan.evidence import has_evidence
from sweeps.plan.model import Arm, Draw, Plan, TrialPlan, trial_id
from sweeps.plan.resources import ClusterResources
from sweeps.plan.units import contradiction
from sweeps.record.journal import FORMAT, Event, Journal
from sweeps.record.state import LOST, SweepState, TrialState, member_of

MOST_REUSED = 50  # trials taken over in one call of `next_trial`, between which Ray's loop hears of signals

logger = logging.getLogger(__name__)

REPORTS_WITHOUT_OBJECTIVE = 3  # after as many, a trial whose trainer names no metrics fails


class Controller:
    """`history` holds the events of earlier launches; new events are appended to `journal`; `reusable` are
    completed trials of other sweeps, whose results may stand in for those of equal trials. `clock` returns
    seconds, by which lost trials wait for their retry."""

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        history: Iterable[Event] = (),
        reusable: ReusableTrials | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = plan
        self.state = SweepState()
        self.usage = BudgetUsage(plan.spec.budget)
        self.placement = Placement(plan, self.state, journal)
        self.retries = Retries(self.state, self.placement, journal, clock)
        self._journal = journal
        self._reusable = reusable
        self._not_reusable: set[str] = set()  # trials for which no equal one was found
        self._arms = {arm.name: arm for arm in plan.arms}
        self.stopping = Stopping(plan, self.state, journal)
        self.looks = EvidenceLooks(plan, self.state, journal.append)
        for event in history:
            self.state.apply(event)
            self.usage.apply(event)
            self.stopping.replay(event)
        journal.listeners += [self.state.apply, self.usage.apply]
        self.waits_for = ""  # what trials wait for that no node has; '' if nothing
        self._searches: dict[str, TPESearch] = {}  # by arm; filled by `begin`
        self._planned_at = (-1, -1, -1)  # stages, looks and selections of which the evidence is planned

    def begin(self, **launch: object) -> None:
        """Record the launch, and plan every trial that is known at this point.

        If the plan was extended since the last launch, completed trials that are now to train longer are
        opened again. `launch` holds further fields of the journal's launch event.
        """
        is_extended = self.state.plan_hash not in ("", self.plan.hash)
        if is_extended:  # first, so that a crash earlier changes nothing
            reopened = self._trials_to_reopen()
            self._journal.append("extend", hash=self.plan.hash, reopened=reopened)
            self.stopping.on_extended(reopened)
        max_t, old_code = self.plan.length, self.state.code
        self._journal.append("launch", format=FORMAT, hash=self.plan.hash, max_t=max_t, **launch)
        self._warn_of_changed_code(old_code)
        self.stopping.make_missing_decisions()
        for lost in self.state.lost:
            self._journal.append("retry", trial_id=lost.trial_id, reason=lost.reason, cause=LOST)
        self.looks.begin()
        for trial in self.plan.first_trials():
            if trial.phase == "search":
                self._plan_trial(trial)
        # A crash may have left a draw with only some of its seeds, or an arm without its selection.
        for trial_state in [trial for trial in self.state.trials.values() if trial.phase == "search"]:
            self._plan_draw(self._arms[trial_state.arm], Draw(trial_state.draw, trial_state.values))
        self._searches = self._open_searches()
        for arm in self.plan.arms:
            self._select(arm)
        self._plan_evidence()

    def _trials_to_reopen(self) -> list[str]:
        """Completed trials that ended before the plan's length, if it is longer than the last launch's."""
        max_t, old_max_t = self.plan.length, self.state.max_t
        if max_t is None or old_max_t is None or max_t <= old_max_t:
            return []
        completed = [trial for trial in self.state.trials.values() if trial.status == "completed"]
        return [
            trial.trial_id
            for trial in completed
            if not self._is_at_its_end(trial, trial.last)
            and all(other.status != "pruned" for other in self.state.siblings_of(trial))  # else it is stopped
        ]

    def _warn_of_changed_code(self, old: str) -> None:
        """`old` is the code version of the last launch, '' if there was none."""
        if old and self.state.code != old:
            text = (
                f"the code has changed since the last launch ({old}, now {self.state.code}): the sweep's "
                f"trials were run by different code"
            )
            self._journal.warn(text)

    # What to run

    def next_trial(self, exclude: Collection[str] = ()) -> TrialPlan | None:
        """The trial to start now. Interrupted trials come first, then the rest in the plan's order. A trial
        that was lost waits a while, and one that fits on no node waits for one. None if there is none, or if
        MOST_REUSED trials were taken over from other sweeps instead: ask again then.

        `exclude` holds the ids of trials that were handed out before and may not have started yet.
        """
        handed_out = frozenset(exclude)
        may_start, reused = self._may_start(handed_out), 0
        while reused < MOST_REUSED:
            for trial in self._waiting(handed_out):
                if self._prune_if_stopped(trial):
                    break
                if self._reuse_result(trial):
                    reused += 1
                    break
                is_due = trial.status == "interrupted" or may_start
                if is_due and self.placement.fits(trial.trial_id):
                    return self._trial_plan(trial)
            else:  # none that waits can start; when a trial ends, further ones may be planned
                if not (may_start and self._ask_search()):
                    return None
        return None

    def _waiting(self, exclude: Collection[str]) -> Iterator[TrialState]:
        """The trials that wait to be started; to be read no further after one of them has ended."""
        for waiting in (self.state.interrupted, self.state.not_started):
            for name, trial in waiting.items():
                if name not in exclude and not self.retries.waits(name):
                    yield trial

    def _may_start(self, handed_out: Collection[str]) -> bool:
        """Whether `budget.trials` allows one more trial, besides those handed out and not yet started."""
        if math.isinf(self.usage.trials_left):
            return True
        return self.usage.trials_left > len(handed_out & self.state.not_started.keys())

    @property
    def finished(self) -> bool:
        """Whether every trial has ended and none will be added."""
        return not self.state.open and not any(search.missing for search in self._searches.values())

    @property
    def only_budget_is_missing(self) -> bool:
        """Whether nothing is left but new trials, which `budget.trials` does not allow: no interrupted one
        waits to go on, and none may be taken over from another sweep."""
        may_reuse = self._reusable is not None and self.state.not_started.keys() - self._not_reusable
        return bool(self.usage.no_more_trials) and not self.state.interrupted and not may_reuse

    @property
    def must_stop(self) -> bool:
        """Whether running trials stop too: a limit was reached, or too many trials were lost."""
        return bool(self.usage.exhausted(time.time()) or self.retries.gave_up)

    @property
    def out_of_budget(self) -> str:
        """The limit that was reached, such as "wall_h: 12 of 12"; '' if none was."""
        return self.usage.exhausted(time.time()) or self.usage.no_more_trials

    def _ask_search(self) -> bool:
        """Plan a new TPE draw, of the arm with the fewest draws. Returns whether an arm needed another."""
        for search in sorted(self._searches.values(), key=lambda search: search.asked):
            if search.may_ask and self.placement.arm_fits(search.arm):
                self._plan_draw(self._arms[search.arm], search.ask())
                return True
        return False

    def _plan_draw(self, arm: Arm, draw: Draw) -> None:
        for seed in self.plan.search_seeds:
            self._plan_trial(self.plan.trial(arm, draw, seed, "search"))

    # Nodes

    def see_nodes(self, nodes: ClusterResources) -> None:
        """Take in the nodes that are alive now, and record a warning if open trials fit on none of them."""
        self.placement.nodes = nodes
        self.waits_for = self.placement.too_large()
        if self.waits_for and self.waits_for not in self.state.warnings:
            self._journal.warn(self.waits_for)

    # Events of running trials

    def started(self, trial_id: str, node: str = "", **more: object) -> None:
        """Record that a trial started, on the node with this id. `more` holds further fields of the journal's
        start event."""
        trial, allocation = self.state.trials[trial_id], self.placement.allocation(trial_id)
        config = self._trial_plan(trial).config
        fields = {"config": config, "cpu": allocation.cpu, "gpu": allocation.gpu, **more}
        if node:
            fields |= {"node": node, "host": self.placement.host(node)}
        self._journal.append("start", trial_id=trial_id, attempt=trial.attempts + 1, **fields)
        self.retries.started(trial_id, node)

    def report(self, trial_id: str, metrics: Mapping[str, float], is_copy: bool = False) -> bool:
        """Record a report. Returns whether the trial continues; if not, its end has been recorded. `is_copy`:
        it comes from another sweep or from a checkpoint, and does not show that the trial runs.

        A report whose objective contradicts its unit fails the trial, without a retry, and is not recorded.
        So do the first reports if all of them lack the objective, unless the trainer says that it comes.
        """
        trial = self.state.trials[trial_id]
        if wrong := self._contradiction(trial, metrics):
            self.ended(trial_id, "failed", wrong)
            return False
        self._write_report(trial_id, metrics)
        if not is_copy:
            self.retries.reported(trial_id)
        if self._lacks_objective(trial):
            return False
        self.stopping.on_report(trial, metrics)
        # A trial at its end completes by itself; its last report only counts in the comparison with others.
        return self._is_at_its_end(trial, metrics) or not self._prune_if_stopped(trial)

    def _contradiction(self, trial: TrialState, metrics: Mapping[str, float]) -> str:
        """Why the report's objective cannot be in its unit; '' if it can, or is not reported."""
        metric = self.plan.spec.objective.metric
        if metric not in metrics:
            return ""
        described = metric in self._arms[trial.arm].units
        return contradiction(metric, metrics[metric], self.plan.units[metric], described)

    def _lacks_objective(self, trial: TrialState) -> bool:
        """If the trial's reports lack the objective, warn of it at the first, and fail the trial at the
        third. Returns whether it has failed. A trainer that names its metrics has named the objective too,
        and may report it late."""
        metric = self.plan.spec.objective.metric
        if metric in trial.last or self.plan.metrics:
            return False
        advice = (
            f"correct objective.metric; or, if {metric} comes in a later report, let describe() name it in "
            f"its metrics"
        )
        if len(trial.reports) == 1:
            text = f"the first report lacks the objective, {metric}; it has {_names(trial)}: {advice}"
            self.warned(trial.trial_id, text)
        if len(trial.reports) < REPORTS_WITHOUT_OBJECTIVE:
            return False
        text = (
            f"{len(trial.reports)} reports lack the objective, {metric}; they have {_names(trial)}: {advice}"
        )
        self.ended(trial.trial_id, "failed", text)
        return True

    def _is_at_its_end(self, trial: TrialState, metrics: Mapping[str, float]) -> bool:
        """By the arm's number of samples, which may be another than that of other arms; by max_t where it is
        not known."""
        horizon, scheduler = self._arms[trial.arm].horizon, self.plan.spec.scheduler
        if horizon is not None and "samples" in metrics:
            return metrics["samples"] >= horizon
        return scheduler.max_t is not None and metrics.get(scheduler.time_attr, 0) >= scheduler.max_t

    def ended(
        self,
        trial_id: str,
        status: str,
        reason: str = "",
        metrics: Mapping[str, float] | None = None,
        cause: str = "",
        log: str = "",
    ) -> None:
        """Record how a trial ended: completed, diverged or failed. A second end of the same trial is ignored.

        `metrics` are those of a last report that came together with the end, such as the diverged one.
        `cause` is LOST for a failure that is not the trainer's; `log` is the end of the trial's log.
        """
        trial = self.state.trials[trial_id]
        if trial.ended:
            return
        if metrics:
            self._write_report(trial_id, metrics)
        metric = self.plan.spec.objective.metric
        if status == "completed" and metric not in trial.last:
            status = "failed"
            reason = f"it never reported the objective, {metric}; it reported {_names(trial)}"
        audit = self.stopping.audited.get(trial.member) if self.state.is_audited(trial) else None
        if audit is not None:
            reason = f"audit, was to stop: {audit.why}" + (f"; {reason}" if reason else "")
        if status == "completed" and (text := self.stopping.unjudged_reason(trial)):
            self.warned(trial_id, text)
        more = ({"cause": cause} if cause else {}) | ({"log": log} if log else {})
        self._journal.append("end", trial_id=trial_id, status=status, reason=reason, **more)
        self._after_end(trial)

    def warned(self, trial_id: str, text: str) -> None:
        """Record a problem after which the trial continues."""
        logger.warning("%s: %s", trial_id, text)
        self._journal.append("warning", trial_id=trial_id, text=text)

    def failed(self, trial_id: str, reason: str, log: str = "") -> None:
        """Record that the trainer failed. The trial is retried from its last checkpoint, at most
        `max_failures` times over all launches; after that its end is recorded. `log` is the end of the
        trial's log."""
        trial = self.state.trials[trial_id]
        if not trial.ended and trial.failures < self.plan.spec.max_failures:
            more = {"log": log} if log else {}
            self._journal.append("retry", trial_id=trial_id, reason=reason, **more)
        else:
            self.ended(trial_id, "failed", reason, log=log)

    def lost(
        self, trial_id: str, reason: str, node: str = "", log: str = "", has_trained: bool = True
    ) -> None:
        """Record that a trial's worker or node died, or cannot run it. The trial is retried from its last
        checkpoint, later and on another node; if it was lost too often, its end is recorded. `node` is the
        node's id, needed where the trial had not started; `log` is the end of the trial's log;
        `has_trained` is False if the trainer had not begun in this attempt."""
        trial = self.state.trials[trial_id]
        if trial.ended:
            return
        cause = self.retries.lost(trial_id, reason, node, log, has_trained)
        if cause is not None:
            often = f"lost {trial.lost + 1} times in a row without a new step; the last time: {reason}"
            self.ended(trial_id, "failed", often, cause=cause, log=log)

    def finish(self, status: str) -> None:
        """Record the end of the launch: completed, budget or interrupted."""
        self._journal.append("finish", status=status)

    # Ends without a run

    def _reuse_result(self, trial: TrialState) -> bool:
        """If another sweep has completed the same trial, record its reports as this trial's; the scheduler
        judges them like new ones. Returns whether this was done."""
        # A trial that is being reused can have attempts: a crash may have interrupted the copying.
        is_new = not trial.attempts or bool(trial.reused_from)
        if self._reusable is None or not is_new or trial.trial_id in self._not_reusable:
            return False
        reused = self._reusable.find(self._trial_plan(trial))
        if reused is None:
            self._not_reusable.add(trial.trial_id)
            return False
        self.started(trial.trial_id, reused_from=reused.source)
        for step, metrics in sorted(reused.reports.items()):
            if not self.report(trial.trial_id, {**metrics, "step": step}, is_copy=True):
                return True
        self.ended(trial.trial_id, "completed", f"reused from {reused.source}")
        return True

    def _prune_if_stopped(self, trial: TrialState) -> bool:
        """If the scheduler has stopped the trial's draw, record the trial's end. Returns whether it has."""
        decision = self.stopping.stop_decision(trial)
        if decision is None:
            return False
        if not trial.ended:
            self._journal.append("end", trial_id=trial.trial_id, status="pruned", reason=decision.why)
            self._after_end(trial)
        return True

    # Search and evidence

    def _open_searches(self) -> dict[str, TPESearch]:
        if not self.plan.spec.tune or self.plan.spec.search.algorithm != "tpe":
            return {}
        arms = [arm for arm in self.plan.arms if arm.tune]
        decisions = self.stopping.decisions
        return {arm.name: TPESearch(self.plan, arm, self.state, decisions) for arm in arms}

    def _after_end(self, trial: TrialState) -> None:
        self.stopping.on_end(trial)
        if trial.phase == "search":
            self._select(self._arms[trial.arm])
        self._plan_evidence()

    def _select(self, arm: Arm) -> None:
        """If all search trials of the arm have ended, record its best draws, which are repeated as evidence.
        With `choose: smoothed` those of all arms are chosen together, once all searches are over."""
        spec = self.plan.spec
        if not spec.tune or arm.name in self.state.selected:
            return
        if spec.search.choose == "smoothed":
            if all(self._search_is_over(each) for each in self.plan.arms):
                self._select_together()
        elif self._search_is_over(arm):
            self._record_selection(arm, self._ranked(arm))

    def _search_is_over(self, arm: Arm) -> bool:
        has_missing_draws = arm.name in self._searches and self._searches[arm.name].missing
        return not (has_missing_draws or self.state.searching.get(arm.name))

    def _ranked(self, arm: Arm) -> list[DrawResult]:
        return ranked(self.state.searched.get(arm.name, []), self.plan.spec, self.stopping.decisions)

    def _select_together(self) -> None:
        """Select for every arm that a crash has not left selected. All arms count in the fit; but an arm
        whose search is that of before an extension keeps its draws, which other arms would change."""
        by_result = {arm.name: self._ranked(arm) for arm in self.plan.arms}
        by_surface = smoothed(by_result, self.plan.spec)
        for arm in self.plan.arms:
            if arm.name in self.state.selected:
                continue
            if kept := self.state.selected_before.get(arm.name):
                self._journal.append("select", arm=arm.name, draws=kept)
                continue
            if arm.name not in by_surface:
                completed = sum(result.completed for result in by_result[arm.name])
                text = (
                    f"{arm.name}: {completed} of its draws completed, too few for search.choose smoothed, "
                    f"which needs {FEWEST_TO_SMOOTH}: its draw is chosen by the best result"
                )
                self._journal.warn(text)
            self._record_selection(arm, by_surface.get(arm.name, by_result[arm.name]))

    def _record_selection(self, arm: Arm, results: list[DrawResult]) -> None:
        draws = [result.draw for result in results[: self.plan.spec.search.keep]]
        if not draws:
            text = (
                f"{arm.name}: every draw of its search diverged or failed, so it has no evidence: read why "
                f"in the reasons of its trials, and change its levels or what is tuned"
            )
            self._journal.warn(text)
        self._journal.append("select", arm=arm.name, draws=draws)

    def _plan_evidence(self) -> None:
        """Take the looks that are due, and plan the evidence trials up to each arm's next look."""
        while self.looks.take():
            pass
        planned_at = len(self.state.stages), len(self.state.looks), len(self.state.selected)
        if planned_at == self._planned_at:  # nothing new: most ends are in the middle of a look
            return
        self._planned_at = planned_at
        for arm in self.plan.arms if has_evidence(self.plan.spec) else ():
            seeds = self.looks.seeds(arm.name)
            for draw in self._draws_shown(arm):
                for seed in seeds:
                    if trial_id(arm.name, draw.index, seed) not in self.state.trials:
                        self._plan_trial(self.plan.trial(arm, draw, seed, "evidence"))

    def _draws_shown(self, arm: Arm) -> list[Draw]:
        """The arm's draws that are repeated as evidence, as far as they are known."""
        if not self.plan.spec.tune:
            return list(self.plan.draws(arm))
        drawn = [
            self.state.siblings["search", member_of(arm.name, index)][0]
            for index in self.state.selected.get(arm.name, [])
        ]
        return [Draw(trial.draw, trial.values) for trial in drawn]

    # From TrialPlan (the plan's) to TrialState (the state's), and back

    def _write_report(self, trial_id: str, metrics: Mapping[str, float]) -> None:
        self._journal.append("report", trial_id=trial_id, **{**metrics, "step": int(metrics["step"])})

    def _plan_trial(self, trial: TrialPlan) -> None:
        if trial.trial_id not in self.state.trials:
            keys = ("trial_id", "arm", "draw", "values", "seed", "phase")
            self._journal.append("trial", **{key: getattr(trial, key) for key in keys})

    def _trial_plan(self, trial: TrialState) -> TrialPlan:
        draw = Draw(trial.draw, trial.values)
        return self.plan.trial(self._arms[trial.arm], draw, trial.seed, trial.phase)


def _names(trial: TrialState) -> str:
    """The metrics that the trial has reported, in words."""
    names = ", ".join(sorted(set(trial.last) - {"step", "samples"}))
    return names or ("nothing else" if trial.last else "nothing")
