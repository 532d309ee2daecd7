"""Draws that depend on results: TPE (Bergstra et al. 2011), with one seeded Optuna study for each arm.

The study is rebuilt from the sweep's state for each draw. The draw therefore depends only on the journal, and
is the same whether or not the sweep was interrupted.
"""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Mapping
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from sweeps.decide.judge import Decision
from sweeps.decide.selection import metrics_as_judged
from sweeps.plan.draws import applies, distribution, in_dependency_order
from sweeps.plan.model import Arm, Draw, Plan
from sweeps.record.state import SweepState, TrialState

optuna.logging.set_verbosity(optuna.logging.WARNING)


class TPESearch:
    """Makes an arm's draws one by one.

    `audited` holds the decisions to stop that were not carried out. TPE sees these members as stopped.
    """

    def __init__(self, plan: Plan, arm: Arm, state: SweepState, audited: Mapping[str, Decision]) -> None:
        self.arm = arm.name
        self._audited = audited
        self._plan = plan
        self._state = state
        self._domains = in_dependency_order(arm.tune)
        self._distributions = {name: distribution(domain) for name, domain in arm.tune.items()}
        self.asked = len(self._draws())

    @property
    def missing(self) -> int:
        """The number of draws still to be made."""
        return max(0, self._plan.spec.search.draws_per_arm - self.asked)

    def ask(self) -> Draw:
        """The next draw."""
        trial = self.study().ask()
        values: dict[str, Any] = {}
        for name, domain in self._domains.items():
            if applies(domain, values):
                values[name] = trial._suggest(name, self._distributions[name])
        self.asked += 1
        return Draw(trial.number, values)

    def study(self) -> optuna.Study:
        """An Optuna study with the arm's draws so far, and a seed that depends on the arm and their
        number."""
        direction: Literal["maximize", "minimize"]
        direction = "maximize" if self._plan.spec.objective.mode == "max" else "minimize"
        seed = zlib.crc32(f"{self.arm}/{self.asked}".encode())
        study = optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=seed))
        study.add_trials(self._as_optuna_trial(trials) for _, trials in sorted(self._draws().items()))
        return study

    def _as_optuna_trial(self, trials: list[TrialState]) -> FrozenTrial:
        """A draw with all its seeds as one Optuna trial: complete with the mean over seeds, pruned with the
        mean at each step, failed (if a seed failed or diverged), or running."""
        metric, audit = self._plan.spec.objective.metric, self._audited.get(trials[0].member)
        values, outcomes = trials[0].values, {trial.status for trial in trials}
        fields: dict[str, Any] = {
            "params": values,
            "distributions": {name: self._distributions[name] for name in values},
        }
        if not all(trial.ended for trial in trials):
            return create_trial(state=OptunaState.RUNNING, **fields)
        if outcomes & {"failed", "diverged"}:
            return create_trial(state=OptunaState.FAIL, **fields)
        fields["intermediate_values"] = self._intermediate_values(trials, audit)
        last = [trial.last.get(metric, math.nan) for trial in trials]
        if audit is None and outcomes == {"completed"} and all(map(math.isfinite, last)):
            return create_trial(value=statistics.fmean(last), **fields)
        return create_trial(state=OptunaState.PRUNED, **fields)

    def _intermediate_values(self, trials: list[TrialState], audit: Decision | None) -> dict[int, float]:
        """The mean over the seeds at every step that all of them reported, up to the rung of an audit."""
        metric, time_attr = self._plan.spec.objective.metric, self._plan.spec.scheduler.time_attr
        ends = [metrics_as_judged(trial, audit, time_attr)["step"] for trial in trials if trial.reports]
        shared = set.intersection(*(set(trial.reports) for trial in trials))
        means = {}
        for step in sorted(step for step in shared if step <= min(ends, default=0)):
            values = [trial.reports[step].get(metric, math.nan) for trial in trials]
            if all(map(math.isfinite, values)):
                means[step] = statistics.fmean(values)
        return means

    def _draws(self) -> dict[int, list[TrialState]]:
        """The search trials of each draw of the arm."""
        trials: dict[int, list[TrialState]] = {}
        for trial in self._state.trials.values():
            if trial.arm == self.arm and trial.phase == "search":
                trials.setdefault(trial.draw, []).append(trial)
        return trials
