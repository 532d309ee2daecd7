"""What a launch came to: its exit status, its last lines, and the summary that is posted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.decide.controller import Controller
from sweeps.observe.mlflow_runs import absolute_uri
from sweeps.record.secrets import without_secret
from sweeps.record.state import SweepState
from sweeps.record.storage import Storage

OK, SOME_FAILED, BAD_INPUT, BUDGET_SPENT = 0, 1, 2, 3
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a launch came to. `folder` is None where nothing was run; `mirrored`: MLflow has all of it."""

    status: int
    folder: Path | None = None
    notes: tuple[str, ...] = ()
    storage: Storage | None = None
    mirrored: bool = False


@dataclass
class Failures:
    """What went wrong outside of the trials: of Ray, of a part of ours, of a full disk. What is recorded
    stays, and the launch comes to its end."""

    texts: list[str] = field(default_factory=list)

    @contextmanager
    def noted(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            logger.exception("%s", what)
            reason = str(error).strip().splitlines()[-1:] or [""]
            self.texts.append(f"{what} broke off ({type(error).__name__}: {reason[0]})")


def status_of(state: SweepState) -> int:
    """Of a sweep that came to its end."""
    failed = any(trial.status == "failed" for trial in state.trials.values())
    return SOME_FAILED if failed else OK


def next_steps(controller: Controller, folder: Path, ending: str, failures: Failures) -> Iterator[str]:
    """What to do now, where the sweep did not come to its end."""
    for text in dict.fromkeys(failures.texts):
        yield f"{text[0].upper()}{text[1:]}; see {folder / 'logs' / 'driver.log'}."
    if failures.texts:
        yield "What was recorded stays. Mend that, and go on with the same command and --resume."
    elif ending == "interrupted":
        yield "Interrupted. Go on with the same command and --resume."
    elif ending == "budget":
        waiting = sum(trial.status == "not_started" for trial in controller.state.open.values())
        yield (
            f"The budget is spent ({controller.out_of_budget}); not started: {waiting}. "
            f"Raise it under `budget`, and go on with the same command and --resume."
        )


def warnings_and_reuse(controller: Controller, folder: Path, reuse: bool) -> Iterator[str]:
    """What went otherwise than a person may think."""
    warnings = list(dict.fromkeys(controller.state.warnings))
    if warnings:
        more = f" (and {len(warnings) - 1} more, in {folder / 'logs' / 'driver.log'})" if warnings[1:] else ""
        yield f"Warning: {warnings[0]}{more}"
    if reuse:
        taken = sum(bool(trial.reused_from) for trial in controller.state.trials.values())
        same = "config, seed, data and the sources beside the trainer"
        yield f"Taken over from other sweeps: {taken or 'no'} trials" + (
            "" if taken else f" ({same} must be the same)"
        )


def mlflow_hint(link: str, uri: str) -> Iterator[str]:
    """The page of MLflow's UI, and how to have one."""
    if link:
        yield f"MLflow: {without_secret(link)}"
        if "://" in uri and not uri.startswith("http"):
            yield f"  (first: mlflow ui --backend-store-uri {without_secret(absolute_uri(uri))})"


def sync_hint(folder: Path, uri: str, trouble: str) -> str:
    return (
        f"MLflow does not have all of it ({trouble}). Nothing is lost; when the store works again: "
        f"python -m sweeps.tracking sync {folder} --tracking-uri {without_secret(uri)}"
    )


def summary(controller: Controller, folder: Path, status: int, ending: str) -> dict[str, Any]:
    """For `--notify`: the sweep, how it ended, its trials by status, and the best completed one."""
    objective, trials = controller.plan.spec.objective, list(controller.state.trials.values())
    sign = 1.0 if objective.mode == "max" else -1.0
    done = [
        trial
        for trial in trials
        if trial.status == "completed"
        and objective.metric in trial.last
        and not controller.state.is_audited(trial)
    ]
    best = max(done, key=lambda trial: sign * trial.last[objective.metric], default=None)
    return {
        "sweep": controller.plan.spec.name,
        "status": ending,
        "exit_status": status,
        "trials": dict(Counter(trial.status for trial in trials)),
        "objective": objective.model_dump(),
        "best": best and {"trial_id": best.trial_id, "value": best.last[objective.metric]},
        "spent": controller.usage.spent_so_far(),
        "folder": str(folder.resolve()),
    }
