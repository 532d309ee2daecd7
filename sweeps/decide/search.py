"""Draws that depend on results: TPE (Bergstra et al. 2011), one seeded Optuna study an arm.

The studies live in one of Optuna's own journal files, which optuna-dashboard opens. That file is derived:
when a sweep goes on, it is written anew from the sweep's journal.
"""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from sweeps.decide.schedulers import Decision
from sweeps.decide.selection import as_judged
from sweeps.plan.draws import applies, distribution, in_dependency_order
from sweeps.plan.model import Arm, Draw, Plan
from sweeps.record.state import SweepState, TrialState

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(path: Path | None) -> BaseStorage:
    """Optuna's journal file at `path`, emptied; in memory where there is none."""
    if path is None:
        return InMemoryStorage()
    path.unlink(missing_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


class TPESearch:
    """Asks for an arm's draws one by one, and tells how each ended.

    `audited` are the members that were to stop and run on to be looked at: they are told as stopped.
    """

    def __init__(
        self,
        plan: Plan,
        arm: Arm,
        state: SweepState,
        storage: BaseStorage,
        audited: Mapping[str, Decision],
    ) -> None:
        self.arm = arm.name
        self._audited = audited
        self._plan = plan
        self._state = state
        self._domains = in_dependency_order(arm.tune)
        self._distributions = {name: distribution(domain) for name, domain in arm.tune.items()}
        direction: Literal["maximize", "minimize"]
        direction = "maximize" if plan.spec.objective.mode == "max" else "minimize"
        self._study = optuna.create_study(
            storage=storage, study_name=f"{plan.spec.name}/{arm.name}", direction=direction
        )
        self.asked = 0
        for draw, trials in sorted(self._draws().items()):
            values = trials[0].values
            known = {name: self._distributions[name] for name in values}
            self._study.add_trial(create_trial(state=OptunaState.RUNNING, params=values, distributions=known))
            self.asked += 1
            if all(trial.ended for trial in trials):
                self.tell(draw)

    @property
    def missing(self) -> int:
        """Draws still to be asked for."""
        return max(0, self._plan.spec.search.draws_per_arm - self.asked)

    def ask(self) -> Draw:
        """The next draw. What TPE answers depends on what it was told, and on nothing else: each question has
        a random state of its own."""
        seed = zlib.crc32(f"{self.arm}/{self.asked}".encode())
        self._study.sampler = optuna.samplers.TPESampler(seed=seed)
        trial = self._study.ask()
        values: dict[str, Any] = {}
        for name, domain in self._domains.items():
            if applies(domain, values):
                values[name] = trial._suggest(name, self._distributions[name])
        self.asked += 1
        return Draw(trial.number, values)

    def tell(self, draw: int) -> None:
        """A draw all of whose seeds have ended: complete with their mean, pruned with the means on the way
        there, or failed (a seed failed or diverged)."""
        trials = self._draws()[draw]
        outcomes = {trial.status for trial in trials}
        audit = self._audited.get(trials[0].member)
        metric = self._plan.spec.objective.metric
        if outcomes & {"failed", "diverged"}:
            self._study.tell(draw, state=OptunaState.FAIL)
            return
        self._tell_on_the_way(draw, trials, audit)
        if (
            audit is None
            and outcomes == {"completed"}
            and all(math.isfinite(t.last.get(metric, math.nan)) for t in trials)
        ):
            self._study.tell(draw, statistics.fmean(trial.last[metric] for trial in trials))
        else:
            self._study.tell(draw, state=OptunaState.PRUNED)

    def _tell_on_the_way(self, draw: int, trials: list[TrialState], audit: Decision | None) -> None:
        metric = self._plan.spec.objective.metric
        trial_id = self._study.get_trials(deepcopy=False)[draw]._trial_id
        time_attr = self._plan.spec.scheduler.time_attr
        ends = [as_judged(trial, audit, time_attr)["step"] for trial in trials if trial.reports]
        shared = set.intersection(*(set(trial.reports) for trial in trials))
        shared = {step for step in shared if step <= min(ends, default=0)}
        for step in sorted(shared):
            values = [trial.reports[step].get(metric, math.nan) for trial in trials]
            if all(math.isfinite(value) for value in values):
                self._study._storage.set_trial_intermediate_value(trial_id, step, statistics.fmean(values))

    def _draws(self) -> dict[int, list[TrialState]]:
        found: dict[int, list[TrialState]] = {}
        for trial in self._state.trials.values():
            if trial.arm == self.arm and trial.phase == "search":
                found.setdefault(trial.draw, []).append(trial)
        return found
