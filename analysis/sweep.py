"""Read a sweep's results from its folder into pandas.

Of a `Sweep`, which `analysis.from_mlflow` gives too, `trials` has a row per trial, `history` a row per
report, `decisions` a row per decision of the scheduler on a trial, and `space` is the resolved search space.
A folder also has `configs`, a row per trial.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from analysis.format import NO_UNIT, SHARE, UNITS, Unit

READS_UP_TO = 1  # the latest major version of results that this code can read

STATUSES = ("completed", "pruned", "diverged", "failed", "interrupted", "not_started", "running")
OPEN = ("interrupted", "not_started", "running")  # the statuses of trials that have not ended
_TEXT = ("trial_id", "arm", "phase", "status", "reason", "mlflow_run_id")
_NUMBERS = ("draw", "seed", "num_params", "flops_per_sample", "samples", "flops", "wall_s", "best_step")
_NEEDED = ("trial_id", "arm", "seed", "status")
_HISTORY = ("trial_id", "step", "samples", "flops", "wall_s")
# Sweeps from before units were recorded: the metrics of TRM's trainer that are shares, 0 to 1.
_TRM = "trm.trainer:train"
_TRM_SHARES = re.compile(
    r"(train|val|test)/(cell|exact|q_halt)_accuracy(_low|_high|_raw)?"
    r"|test/chosen_exact_accuracy(_low|_high)?|test/exact_accuracy_(at|rating)_\w+"
    r"|test/q_auroc|test/q_ece|test/solved_then_lost(_at_\d+)?"
)
_ON_EVIDENCE = ("stage", "look", "extend", "end", "retry")
_DECISIONS = ("trial_id", "member", "rung", "value", "cutoff", "action")


class AnalysisError(ValueError):
    """Results that cannot be analysed. The message gives the problem, the file and the remedy."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


def _no_configs() -> pd.DataFrame:
    raise AnalysisError(
        "this sweep is not from a folder: from MLflow, the config's keys are columns of `trials`"
    )


@dataclass(frozen=True)
class Sweep:
    """The results of one sweep. Missing numbers are NaN; `folder` is None if they are from MLflow."""

    trials: pd.DataFrame
    history: pd.DataFrame
    decisions: pd.DataFrame
    space: Mapping[str, Any]
    folder: Path | None = None
    codes: tuple[str, ...] = ()  # version of the code at each launch, if there is a journal
    ran_with: str = ""  # versions of Python and libraries at the last launch, likewise
    events: tuple[Mapping[str, Any], ...] = ()  # the journal's stages, looks, extensions, ends and retries
    read_configs: Callable[[], pd.DataFrame] = _no_configs  # when `configs` is first asked for
    hardware: tuple[str, ...] = ()  # of each launch, likewise: cores and GPUs
    commits: tuple[str, ...] = ()  # of each launch, likewise: the commit, and whether files differed from it
    allocated: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # trials' cores and GPUs
    kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)  # worked out

    @cached_property
    def configs(self) -> pd.DataFrame:
        """configs.parquet, a row per trial: `trial_id`, and a column per dotted key of the config that it ran
        with. `sweeps.record.configs` says how values of several types are written. Raises AnalysisError."""
        return self.read_configs()

    @property
    def name(self) -> str:
        return str(self.space.get("name") or (self.folder.name if self.folder else "sweep"))

    @property
    def metric(self) -> str:
        """The objective's metric, which ranks the arms."""
        return str(self.space["objective"]["metric"])

    @property
    def maximise(self) -> bool:
        return self.space["objective"].get("mode", "max") == "max"

    @property
    def _scheduler(self) -> dict[str, Any]:
        return self.space.get("scheduler") or {}

    @property
    def judged_metric(self) -> str:
        """The metric by which the scheduler judges; the objective's if none judges or it names none."""
        return str(self._scheduler.get("metric") or self.metric)

    @property
    def judged_maximise(self) -> bool:
        """Whether higher is better in `judged_metric`."""
        mode = self._scheduler.get("mode")
        return self.maximise if mode is None else bool(mode == "max")

    @property
    def judged_over(self) -> str:
        """What the scheduler's rungs count: "flops" or "samples"."""
        return "flops" if self._scheduler.get("time_attr") == "flops" else "samples"

    @property
    def compared_over(self) -> str:
        """What is common to the trials compared: "flops" if `match` gives arms equal training FLOPs, else
        "samples"."""
        return "samples" if self.train_flops is None else "flops"

    @property
    def test_metric(self) -> str | None:
        """The objective's counterpart on the test split, if some trial reported it."""
        name = "test/" + self.metric.removeprefix("val/")
        reported = self.metric.startswith("val/") and name in self.trials and self.trials[name].notna().any()
        return name if reported else None

    @property
    def shown_metric(self) -> str:
        """What claims are about: the objective on the test split, or itself where test was not measured."""
        return self.test_metric or self.metric

    def unit(self, metric: str) -> Unit:
        """The metric's unit, as sweep.yaml has it; no unit if it has none.

        A sweep from before units were recorded has those of TRM's metrics, if TRM's trainer ran it.
        """
        recorded, objective = self.resolved.get("units"), self.space["objective"].get("unit")
        if metric in (recorded or {}):
            return UNITS[(recorded or {})[metric]]
        if objective and metric in (self.metric, self.test_metric):
            return UNITS[objective]
        is_share = recorded is None and self.space.get("trainer") == _TRM and _TRM_SHARES.fullmatch(metric)
        return SHARE if is_share else NO_UNIT

    @property
    def lost_with_node(self) -> set[str]:
        """The ids of trials that failed because their process or node died: no outcome of an arm."""
        ends = {event["trial_id"]: event.get("cause") for event in self.events if event["event"] == "end"}
        return {trial_id for trial_id, cause in ends.items() if cause == "lost"}

    @property
    def is_exploratory(self) -> bool:
        """Whether no trial of the evidence phase has completed: the others carry no claims."""
        done = self.trials["status"] == "completed"
        return not bool((done & (self.trials["phase"] == "evidence")).any())

    @property
    def audited(self) -> pd.Series:
        """Mask of the trials that the scheduler would have stopped, but that ran on for the audit."""
        if "audited" not in self.trials:
            return pd.Series(False, index=self.trials.index)
        return self.trials["audited"].astype(str).str.lower() == "true"

    @property
    def resolved(self) -> Mapping[str, Any]:
        return self.space.get("resolved") or {}

    @property
    def train_flops(self) -> float | None:
        """The training FLOPs that `match` gives the trials of every arm; None if it gives them no equal ones,
        and arms are compared at equal samples."""
        match = (self.resolved.get("identity") or {}).get("match") or {}
        return match.get("train_flops")

    @property
    def arms(self) -> list[str]:
        """All arms, in the order of the plan."""
        planned = list(self.resolved.get("arms") or {})
        return planned + [arm for arm in self.trials["arm"].unique() if arm not in planned]

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with: the one named in the plan, else the first."""
        named = str(self.resolved.get("baseline") or "")
        return named if named in self.arms else self.arms[0]

    @property
    def factors(self) -> list[str]:
        return list(self.resolved.get("factors") or self.space.get("ablate") or {})

    def arm_number(self, arm: str, name: str) -> float:
        """`num_params` or `flops_per_sample` of an arm; NaN if the trainer does not give it."""
        value = ((self.resolved.get("arms") or {}).get(arm) or {}).get(name)
        if value is None:
            value = self.trials.loc[self.trials["arm"] == arm, name].median()
        return float(value)


def records(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows as named tuples, typed Any because columns have different types."""
    yield from frame.itertuples(index=False)


def load_sweep(path: Path | str) -> Sweep:
    """The sweep in folder `path` (`results/NAME`).

    Raises AnalysisError if the folder or one of its files is missing, damaged, or of a later version.
    """
    folder = Path(path)
    if not folder.is_dir():
        beside = sorted(path.parent.name for path in folder.parent.glob("*/sweep.yaml"))
        there = f"{folder.parent} has: {', '.join(beside)}" if beside else "there are none yet"
        shipped = Path(__file__).parents[1] / "search_spaces" / f"{folder.name}.yaml"
        name = folder.name if shipped.exists() else "smoke"
        raise AnalysisError(
            f"{folder} is no folder: give a sweep's results, such as results/smoke ({there}). "
            f"`python run_sweep.py {name}` makes those in results/{name}"
        )
    space = read_space(folder / "sweep.yaml")
    trials, history = _read_parquet(folder / "trials.parquet"), _read_parquet(folder / "history.parquet")
    events = _read_events(folder / "journal.jsonl")
    sweep = sweep_of(trials, history, _decisions_of(events), space, folder)
    launches = [event for event in events if event["event"] == "launch"]

    def told(key: str) -> tuple[str, ...]:
        return tuple(str(event[key]) for event in launches if event.get(key))

    return replace(
        sweep,
        ran_with=str(launches[-1].get("libraries") or "") if launches else "",
        events=tuple(event for event in events if event["event"] in _ON_EVIDENCE),
        read_configs=partial(_read_configs, folder),
        codes=told("code"),
        hardware=told("hardware"),
        allocated={
            str(event["trial_id"]): (float(event.get("cpu") or 0), float(event.get("gpu") or 0))
            for event in events
            if event["event"] == "start"
        },
        commits=told("commit"),
    )


def sweep_of(
    trials: pd.DataFrame,
    history: pd.DataFrame,
    decisions: pd.DataFrame,
    space: dict[str, Any],
    folder: Path | None,
) -> Sweep:
    """A Sweep of tables with all columns and types that the analysis requires."""
    missing = [column for column in _NEEDED if column not in trials]
    if missing:
        raise AnalysisError(f"the trials of {space.get('name')} have no column {', '.join(missing)}")
    numbers = (*_NUMBERS, str(space["objective"]["metric"]))
    trials = trials.assign(**{column: float("nan") for column in numbers if column not in trials})
    trials = trials.assign(**{column: "" for column in _TEXT if column not in trials})
    trials[list(_TEXT)] = trials[list(_TEXT)].fillna("").astype(str)
    trials["phase"] = trials["phase"].where(trials["phase"] == "evidence", "search")  # unknown: no claim
    trials["draw"] = pd.to_numeric(trials["draw"], errors="coerce").fillna(0)
    arms = (space.get("resolved") or {}).get("arms") or {}
    named = {*_TEXT, *(space.get("ablate") or {}), *(space.get("tune") or {})}
    named |= {name for arm in arms.values() for name in arm.get("levels") or {}}
    for column in {*_NUMBERS, *(name for name in trials if "/" in str(name))} - named:
        trials[column] = pd.to_numeric(trials[column], errors="coerce").astype(float)
    trials[["draw", "seed"]] = trials[["draw", "seed"]].astype("Int64")
    reported = (*_HISTORY, str(space["objective"]["metric"]))
    history = history.assign(**{column: float("nan") for column in reported if column not in history})
    for column in set(history) - {"trial_id"}:
        history[column] = pd.to_numeric(history[column], errors="coerce").astype(float)
    decisions = decisions.reindex(columns=list(dict.fromkeys([*_DECISIONS, *decisions])))
    return Sweep(trials.reset_index(drop=True), history.reset_index(drop=True), decisions, space, folder)


def read_space(path: Path) -> dict[str, Any]:
    try:
        space = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AnalysisError(f"{path} is missing: {path.parent} does not hold a sweep's results") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AnalysisError(f"{path} is not YAML: {error}") from error
    if not isinstance(space, dict) or not isinstance(space.get("resolved"), dict):
        raise AnalysisError(f"{path} has no key `resolved`: it is a search space, not the results of one")
    if not isinstance(space.get("objective"), dict) or "metric" not in space["objective"]:
        raise AnalysisError(f"{path} has no objective.metric: what should the arms be ranked by?")
    version = str(space["resolved"].get("version", "0"))
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) > READS_UP_TO:
        raise AnalysisError(
            f"{path} was written by version {version}; this one reads results of version {READS_UP_TO} and "
            f"before: analyse it with the version that wrote it"
        )
    return space


def _read_parquet(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise AnalysisError(
            f"{path} is missing: it is written when the launch ends. While the sweep runs "
            f"`{_report_command(path.parent)}` writes it"
        )
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{path} is not a readable parquet file: {error}") from error


def _report_command(folder: Path) -> str:
    return shlex.join(["python", "-m", "sweeps", "report", folder.name, "--storage", str(folder.parent)])


def _read_configs(folder: Path) -> pd.DataFrame:
    path = folder / "configs.parquet"
    if not path.exists():
        raise AnalysisError(
            f"{path} is missing: the tables were written before there was one. `{_report_command(folder)}` "
            f"writes it from the journal"
        )
    return _read_parquet(path)


def _read_events(path: Path) -> list[dict[str, Any]]:
    """The journal's events that say more than the tables. An incomplete line, as of a crash, is skipped."""
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("event") in ("decision", "launch", "start", *_ON_EVIDENCE):
            events.append(event)
    return events


def _decisions_of(events: list[dict[str, Any]]) -> pd.DataFrame:
    decisions = pd.DataFrame([event for event in events if event["event"] == "decision"])
    for column in {"rung", "value", "cutoff", "tied"} & set(decisions):
        decisions[column] = pd.to_numeric(decisions[column], errors="coerce").astype(float)
    return decisions
