"""The end of a launch: exit status, closing messages, and the JSON summary for --notify."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.decide.controller import Controller
from sweeps.record.mlflow_file import MlflowFile
from sweeps.record.secrets import without_secret
from sweeps.record.state import SweepState, how_ended
from sweeps.record.storage import Storage

if TYPE_CHECKING:
    import pandas as pd

OK, SOME_FAILED, BUDGET_SPENT = 0, 1, 3  # 2 is bad input, for which there is no summary
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The result of a launch.

    `status` is the exit status; `folder` is the sweep's folder, None for a preview; `ranking_text` is the
    ranking as it was printed, "" if there is none yet; `notes` were printed after it. `end_mlflow` is called
    once the report is written: it writes the rest to MLflow, and returns more notes.
    """

    status: int
    folder: Path | None = None
    notes: tuple[str, ...] = ()
    end_mlflow: Callable[[], Sequence[str]] = tuple
    ranking_text: str = ""

    @property
    def ranking(self) -> pd.DataFrame:
        """The arms, best first: a row an arm, with the columns of `analysis.rank_arms`.

        Raises AnalysisError if there are no results.
        """
        from analysis.compare.ranking import rank_arms
        from analysis.sweep import AnalysisError, load_sweep

        if self.folder is None:
            raise AnalysisError("a preview runs nothing: it has no ranking")
        return rank_arms(load_sweep(self.folder))


@dataclass
class Failures:
    """Errors outside of trials: in Ray, in this package, or from a full disk. The launch continues to its
    end, so that tables and messages are still written."""

    texts: list[str] = field(default_factory=list)

    @contextmanager
    def catch(self, what: str) -> Iterator[None]:
        """Catch and log an error in the block; `what` names the block in the message."""
        try:
            yield
        except Exception as error:
            logger.exception("%s", what)
            reason = without_secret(str(error)).strip().splitlines()[-1:] or [""]
            self.texts.append(f"{what} stopped with an error ({type(error).__name__}: {reason[0]})")


def status_of(state: SweepState) -> int:
    """The exit status of a sweep that has finished."""
    failed = any(trial.status == "failed" for trial in state.trials.values())
    return SOME_FAILED if failed else OK


def next_steps(controller: Controller, folder: Path, ending: str, failures: Failures) -> Iterator[str]:
    """Messages for a sweep that has not finished: why, and how to continue it."""
    for text in dict.fromkeys(failures.texts):
        yield f"{text[0].upper()}{text[1:]}; see {folder / 'logs' / 'driver.log'}."
    if failures.texts:
        yield "Recorded results are kept. Fix the cause, and continue with the same command and --resume."
    elif ending == "interrupted":
        yield "Interrupted. Continue with the same command and --resume."
    elif ending == "budget":
        waiting = sum(trial.status == "not_started" for trial in controller.state.open.values())
        yield (
            f"The budget is spent ({controller.out_of_budget}); not started: {waiting}. "
            f"Raise it under `budget`, and continue with the same command and --resume."
        )


def warnings(state: SweepState, folder: Path) -> Iterator[str]:
    """The first warning of the journal."""
    found = list(dict.fromkeys(state.warnings))
    if found:
        more = f" (and {len(found) - 1} more, in {folder / 'logs' / 'driver.log'})" if found[1:] else ""
        yield f"Warning: {found[0]}{more}"


def reused(state: SweepState) -> Iterator[str]:
    """The number of trials that were taken over from other sweeps."""
    number = sum(bool(trial.reused_from) for trial in state.trials.values())
    condition = " (config, seed, data and the trainer's source code must be the same)"
    yield f"Reused from other sweeps: {number or 'no'} trials{'' if number else condition}"


def mlflow_hint(found: MlflowFile) -> Iterator[str]:
    """The sweep's pages in MLflow's UI, and the command that starts the UI if the store is not a server."""
    if found.link:
        yield f"MLflow: {clickable(found.link)}"
        if found.search_link:
            yield f"  (the search: {clickable(found.search_link)})"
        if "://" in found.store and not found.store.startswith(("http", "databricks")):
            yield f"  (first: mlflow ui --backend-store-uri {found.store})"


def clickable(link: str) -> str:
    """The link, as one that a terminal opens even where it is wrapped (OSC 8), if the output is one."""
    return f"\x1b]8;;{link}\x1b\\{link}\x1b]8;;\x1b\\" if sys.stdout.isatty() else link


def refused_by_mlflow(notes: Sequence[str]) -> Iterator[str]:
    """A message on what MLflow does not take."""
    if notes:
        more = f" (and {len(notes) - 1} more)" if notes[1:] else ""
        yield f"MLflow: {notes[0]}{more}. The tables have it."


def sync_hint(name: str, storage: Storage, uri: str, error: str) -> str:
    """A message with the command that writes what is missing in MLflow; `error` is why it is missing."""
    command = storage.command("sync", name, "--tracking-uri", without_secret(uri))
    return (
        f"MLflow does not have all results ({without_secret(error, uri)}). Nothing is lost; when the store "
        f"works again, run: {command}"
    )


def summary(controller: Controller, folder: Path, status: int, ending: str) -> dict[str, Any]:
    """The JSON object for --notify: the sweep, how it ended, its trials by status, and the best completed
    one."""
    objective, trials = controller.plan.spec.objective, list(controller.state.trials.values())
    sign = 1.0 if objective.mode == "max" else -1.0
    completed = [
        trial
        for trial in trials
        if trial.status == "completed"
        and objective.metric in trial.last
        and not controller.state.is_audited(trial)
    ]
    best = max(completed, key=lambda trial: sign * trial.last[objective.metric], default=None)
    counts = Counter(trial.status for trial in trials)
    outcomes = ", ".join(f"{number} {state.replace('_', ' ')}" for state, number in counts.items())
    leader = f"; best {objective.metric} {best.last[objective.metric]:.4g} ({best.trial_id})" if best else ""
    what = f"{controller.plan.spec.name}: {ending}, exit status {status}"
    return {
        "text": f"{what}: {outcomes or 'no trials'}{leader}",
        "sweep": controller.plan.spec.name,
        "state": how_ended(ending),
        "status": ending,
        "exit_status": status,
        "trials": dict(counts),
        "objective": objective.model_dump(),
        "best": best and {"trial_id": best.trial_id, "value": best.last[objective.metric]},
        "spent": controller.usage.spent_so_far(),
        "folder": str(folder.resolve()),
    }
