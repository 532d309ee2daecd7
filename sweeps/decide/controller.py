"""The course of a sweep: which trial is next, what a report leads to, which draws go on to the evidence.

Knows nothing of Ray: it is told what happens and answers what to do, and every step of it is an event in the
journal. A conductor built from an old journal goes on where the last one stopped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping

from sweeps.decide.budget import BudgetUsage
from sweeps.decide.placement import Placement
from sweeps.decide.reuse import ReusableTrials
from sweeps.decide.search import TPESearch
from sweeps.decide.selection import ranked
from sweeps.decide.stopping import Stopping
from sweeps.plan.model import Arm, Draw, Plan, TrialPlan
from sweeps.record.journal import Event, Journal
from sweeps.record.state import SweepState, TrialState

logger = logging.getLogger(__name__)


class Controller:
    """`history` is what the journal holds; `journal` takes what is new; `reusable`
    are trials of other sweeps that may be taken over."""

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        history: Iterable[Event] = (),
        reusable: ReusableTrials | None = None,
    ) -> None:
        self.plan = plan
        self.state = SweepState()
        self.usage = BudgetUsage(plan.spec.budget)
        self.placement = Placement(plan, self.state, journal)
        self._journal = journal
        self._reusable = reusable
        self._arms = {arm.name: arm for arm in plan.arms}
        self.stopping = Stopping(plan, self.state, journal)
        for event in history:
            self.state.apply(event)
            self.usage.apply(event)
            self.stopping.replay(event)
        journal.listeners += [self.state.apply, self.usage.apply]
        self._searches: dict[str, TPESearch] = {}  # opened at the beginning, once the plan has grown

    def begin(self, **launch: object) -> None:
        """Note the launch, and plan every trial that is known by now. Where the plan has grown since the last
        one, trials that have completed and are now to go further are open again."""
        if self.state.plan_hash not in ("", self.plan.hash):  # first: a crash before it changes nothing
            reopened = self._have_further_to_go()
            self._journal.append("extend", hash=self.plan.hash, reopened=reopened)
            self.stopping.on_extended(reopened)
        max_t = self.plan.spec.scheduler.max_t
        before, code = self.state.code, launch.get("code", "")
        self._journal.append("launch", hash=self.plan.hash, max_t=max_t, **launch)
        if before and code != before:
            text = (
                f"the code has changed since the last launch ({before}, now {code}): trials are of two makes"
            )
            logger.warning("%s", text)
            self._journal.append("warning", text=text)
        self.stopping.catch_up()
        for trial in self.plan.first_trials():
            self._plan_trial(trial)
        # A crash may have come between a draw's seeds, or before a choice.
        for known in [trial for trial in self.state.trials.values() if trial.phase == "search"]:
            self._plan_draw(self._arms[known.arm], Draw(known.draw, known.values))
        self._searches = self._open_searches()
        for arm in self.plan.arms:
            self._select(arm)

    def _have_further_to_go(self) -> list[str]:
        key, max_t, before = (
            self.plan.spec.scheduler.time_attr,
            self.plan.spec.scheduler.max_t,
            self.state.max_t,
        )
        if max_t is None or before is None or max_t <= before:
            return []
        completed = [trial for trial in self.state.trials.values() if trial.status == "completed"]
        return [trial.trial_id for trial in completed if trial.last.get(key, max_t) < max_t]

    # What to run

    def next_trial(self, exclude: Collection[str] = ()) -> TrialPlan | None:
        """A trial to start now, or None. Interrupted trials come first, then the rest in the plan's order.

        `exclude` are those handed out already, which may not have started yet.
        """
        has_more = True
        while has_more:  # an end may lead to further trials
            has_more = False
            for trial in self._waiting(exclude):
                if self._stop_if_its_member_was(trial) or self._take_over(trial):
                    has_more = True
                elif trial.status == "interrupted" or self._may_begin(exclude):
                    return self._as_plan(trial)
        return self._ask(exclude) if self._may_begin(exclude) else None

    def _waiting(self, exclude: Collection[str]) -> list[TrialState]:
        trials = [trial for trial in self.state.open.values() if trial.trial_id not in exclude]
        waiting = [trial for trial in trials if trial.status == "interrupted"]
        return waiting + [trial for trial in trials if trial.status == "not_started"]

    def _may_begin(self, handed_out: Collection[str]) -> bool:
        """Whether the budget has room for a trial more, beside those that are about to begin."""
        about_to = [self.state.trials[trial_id].status == "not_started" for trial_id in handed_out]
        return self.usage.trials_left > sum(about_to)

    @property
    def finished(self) -> bool:
        """Whether every trial has ended and none will be added."""
        return not self.state.open and not any(search.missing for search in self._searches.values())

    @property
    def must_stop(self) -> bool:
        """Whether a limit was reached that ends trials in their midst too."""
        return bool(self.usage.exhausted(time.time()))

    @property
    def out_of_budget(self) -> str:
        """The limit that has been reached, such as "wall_h: 12 of 12"; '' where there is none."""
        return self.usage.exhausted(time.time()) or self.usage.no_more_trials

    @property
    def unplanned_trials(self) -> int:
        """Trials that will follow, but are not planned yet: draws that TPE has still to be asked for, and the
        evidence of arms whose search goes on."""
        spec = self.plan.spec
        draws = [search.missing for search in self._searches.values()]
        searched = [arm for arm in self.plan.arms if spec.tune and arm.name not in self.state.selected]
        kept = sum(min(spec.search.keep, self.plan.number_of_draws(arm)) for arm in searched)
        return sum(draws) * len(self.plan.search_seeds) + kept * len(spec.seeds)

    def _ask(self, exclude: Collection[str]) -> TrialPlan | None:
        for search in sorted(self._searches.values(), key=lambda search: search.asked):
            if search.missing:
                self._plan_draw(self._arms[search.arm], search.ask())
                return self.next_trial(exclude)
        return None

    def _plan_draw(self, arm: Arm, draw: Draw) -> None:
        for seed in self.plan.search_seeds:
            self._plan_trial(self.plan.trial(arm, draw, seed, "search"))

    # What happens

    def started(self, trial_id: str, **more: object) -> None:
        trial, wanted = self.state.trials[trial_id], self.placement.of(trial_id)
        fields = {"config": self._as_plan(trial).config, "cpu": wanted.cpu, "gpu": wanted.gpu, **more}
        self._journal.append("start", trial_id=trial_id, attempt=trial.attempts + 1, **fields)

    def report(self, trial_id: str, metrics: Mapping[str, float]) -> bool:
        """Take a report in. False: the trial stops here, and its end is noted."""
        trial = self.state.trials[trial_id]
        self._write_report(trial_id, metrics)
        self.stopping.on_report(trial, metrics)
        return self._is_at_its_end(metrics) or not self._stop_if_its_member_was(trial)

    def _is_at_its_end(self, metrics: Mapping[str, float]) -> bool:
        """A trial that has reached `max_t` completes by itself: it was judged for the others' sake only."""
        scheduler = self.plan.spec.scheduler
        return scheduler.max_t is not None and metrics.get(scheduler.time_attr, 0) >= scheduler.max_t

    def ended(
        self, trial_id: str, status: str, reason: str = "", metrics: Mapping[str, float] | None = None
    ) -> None:
        """Note how a trial ended: completed, diverged or failed. A second end is passed over.

        `metrics` are those of a last report that came with the end, as when it is what diverged.
        """
        trial = self.state.trials[trial_id]
        if trial.ended:
            return
        if metrics:
            self._write_report(trial_id, metrics)
        metric = self.plan.spec.objective.metric
        if status == "completed" and metric not in trial.last:
            reported = ", ".join(sorted(set(trial.last) - {"step", "samples"})) or "nothing"
            status, reason = "failed", f"it never reported the objective, {metric}; it reported {reported}"
        audit = self.stopping.audited.get(trial.member) if self.state.is_audited(trial) else None
        if audit is not None:
            reason = f"audit, was to stop: {audit.why}" + (f"; {reason}" if reason else "")
        if status == "completed" and (why := self.stopping.never_judged(trial)):
            self.warned(trial_id, why)
        self._journal.append("end", trial_id=trial_id, status=status, reason=reason)
        self._after_end(trial)

    def warned(self, trial_id: str, text: str) -> None:
        """Note what went wrong, though the trial goes on."""
        logger.warning("%s: %s", trial_id, text)
        self._journal.append("warning", trial_id=trial_id, text=text)

    def failed(self, trial_id: str, reason: str) -> None:
        """Note that a trial broke off. It is tried again from its last checkpoint, `max_failures` times in
        all: what happened in earlier launches counts."""
        trial = self.state.trials[trial_id]
        if not trial.ended and trial.failures < self.plan.spec.max_failures:
            self._journal.append("retry", trial_id=trial_id, reason=reason)
        else:
            self.ended(trial_id, "failed", reason)

    def finish(self, status: str) -> None:
        self._journal.append("finish", status=status)

    # Trials of other sweeps

    def _take_over(self, trial: TrialState) -> bool:
        """Whether another sweep has run the very trial; its reports are then this one's, and are judged as
        if they had come just now."""
        is_new = not trial.attempts or bool(trial.reused_from)  # a crash may have come in the midst of it
        found = self._reusable.find(self._as_plan(trial)) if self._reusable and is_new else None
        if found is None:
            return False
        self.started(trial.trial_id, reused_from=found.source)
        for step, metrics in sorted(found.reports.items()):
            if not self.report(trial.trial_id, {**metrics, "step": step}):
                return True
        self.ended(trial.trial_id, "completed", f"reused from {found.source}")
        return True

    def _stop_if_its_member_was(self, trial: TrialState) -> bool:
        decision = self.stopping.decision_against(trial)
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
        audited = self.stopping.audited
        return {arm.name: TPESearch(self.plan, arm, self.state, audited) for arm in arms}

    def _after_end(self, trial: TrialState) -> None:
        self.stopping.on_end(trial)
        if trial.phase != "search":
            return
        self._select(self._arms[trial.arm])

    def _select(self, arm: Arm) -> None:
        """When all of an arm's search has ended, plan the evidence of its best draws."""
        spec = self.plan.spec
        if not spec.tune:
            return
        if arm.name not in self.state.selected:
            search = [t for t in self.state.trials.values() if t.arm == arm.name and t.phase == "search"]
            more = arm.name in self._searches and self._searches[arm.name].missing
            if more or not all(trial.ended for trial in search):
                return
            draws = ranked(search, spec, self.stopping.audited)[: spec.search.keep]
            self._journal.append("select", arm=arm.name, draws=draws)
        values = {t.draw: t.values for t in self.state.trials.values() if t.arm == arm.name}
        for index in self.state.selected[arm.name]:
            for trial in self.plan.evidence_trials(arm, Draw(index, values[index])):
                self._plan_trial(trial)

    # The plan's trials and the state's

    def _write_report(self, trial_id: str, metrics: Mapping[str, float]) -> None:
        self._journal.append("report", trial_id=trial_id, **{**metrics, "step": int(metrics["step"])})

    def _plan_trial(self, trial: TrialPlan) -> None:
        if trial.trial_id not in self.state.trials:
            keys = ("trial_id", "arm", "draw", "values", "seed", "phase")
            self._journal.append("trial", **{key: getattr(trial, key) for key in keys})

    def _as_plan(self, trial: TrialState) -> TrialPlan:
        draw = Draw(trial.draw, trial.values)
        return self.plan.trial(self._arms[trial.arm], draw, trial.seed, trial.phase)
