"""Draws that depend on results: TPE (Bergstra et al. 2011), with one seeded Optuna study for each arm.

The study is rebuilt in memory from the sweep's state for each draw. The draw therefore depends only on the
journal, and is the same whether or not the sweep was interrupted.

The first TPE_STARTUP draws of an arm are random, whatever is known. A later draw waits until as many have
ended: before that Optuna would draw it at random too. And it waits while as many are open: so of the draws
before it more have ended than not, and the model has more results than guesses, for an open draw counts as a
bad one (`constant_liar`), to keep the new one away from it. Without this bound a sweep with many workers is
random search.
"""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Mapping
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from sweeps.decide.judge import Decision
from sweeps.decide.selection import by_draw
from sweeps.plan.draws import TPE_STARTUP, applies, distribution, in_dependency_order
from sweeps.plan.model import Arm, Draw, Plan
from sweeps.record.state import SweepState, TrialState

optuna.logging.set_verbosity(optuna.logging.WARNING)


class TPESearch:
    """Makes an arm's draws one by one.

    `decisions` holds the decisions to stop, by member, whether carried out or not: TPE sees these members as
    stopped.
    """

    def __init__(self, plan: Plan, arm: Arm, state: SweepState, decisions: Mapping[str, Decision]) -> None:
        self.arm = arm.name
        self._decisions = decisions
        self._plan = plan
        self._state = state
        self._domains = in_dependency_order(arm.tune)
        self._distributions = {name: distribution(domain) for name, domain in arm.tune.items()}
        self.asked = len({trial.draw for trial in state.searched.get(self.arm, [])})

    @property
    def missing(self) -> int:
        """The number of draws still to be made."""
        return max(0, self._plan.spec.search.draws_per_arm - self.asked)

    @property
    def may_ask(self) -> bool:
        """Whether a draw is missing, and need not wait for results of others."""
        if self.asked < TPE_STARTUP:
            return bool(self.missing)
        trials = self._state.trials
        waiting = len({trials[trial_id].draw for trial_id in self._state.searching.get(self.arm, ())})
        return bool(self.missing) and waiting < TPE_STARTUP <= self.asked - waiting

    def ask(self) -> Draw:
        """The next draw."""
        trial = self.study().ask()
        values: dict[str, Any] = {}
        for name, domain in self._domains.items():
            if applies(domain, values):
                values[name] = trial._suggest(name, self._distributions[name])
        draw = Draw(self.asked, values)
        self.asked += 1
        return draw

    def study(self) -> optuna.Study:
        """An Optuna study with the arm's draws so far, and a seed that depends on the arm and their
        number."""
        direction: Literal["maximize", "minimize"]
        direction = "maximize" if self._plan.spec.objective.mode == "max" else "minimize"
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=TPE_STARTUP,
            multivariate=True,
            constant_liar=True,
            seed=zlib.crc32(f"{self.arm}/{self.asked}".encode()),
        )
        study = optuna.create_study(direction=direction, sampler=sampler)
        draws = by_draw(self._state.searched.get(self.arm, []))
        study.add_trials(self._as_optuna_trial(trials) for _, trials in sorted(draws.items()))
        return study

    def _as_optuna_trial(self, trials: list[TrialState]) -> FrozenTrial:
        """A draw with all its seeds as one Optuna trial: complete with the mean over seeds, pruned with the
        value that it was judged by and its rung as the step, failed (if a seed failed or diverged), or
        running."""
        spec, decision = self._plan.spec, self._decisions.get(trials[0].member)
        values, outcomes = trials[0].values, {trial.status for trial in trials}
        fields: dict[str, Any] = {
            "params": values,
            "distributions": {name: self._distributions[name] for name in values},
        }
        if not all(trial.ended for trial in trials):
            return create_trial(state=OptunaState.RUNNING, **fields)
        if outcomes & {"failed", "diverged"}:
            return create_trial(state=OptunaState.FAIL, **fields)
        is_audited = decision is not None and decision.action == "audit"
        if outcomes == {"completed"} and not is_audited:
            value = statistics.fmean(trial.last[spec.objective.metric] for trial in trials)
            return create_trial(value=value, **fields)
        if decision is None:  # stopped for a seed that had failed, and was retried later
            return create_trial(state=OptunaState.FAIL, **fields)
        # Optuna ranks stopped trials by their last step, then by the value there, in the study's direction.
        sign = 1.0 if spec.scheduler.mode == spec.objective.mode else -1.0
        judged = {int(decision.rung): sign * decision.value}
        return create_trial(state=OptunaState.PRUNED, intermediate_values=judged, **fields)
