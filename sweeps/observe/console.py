"""The progress display during a run: a live table in a terminal, else a line every PLAIN_EVERY_S."""

from __future__ import annotations

import threading
import time
from collections import Counter

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from analysis.format import UNITS, duration
from sweeps.decide.controller import Controller
from sweeps.record.state import Status, TrialState

REFRESH_S = 0.5
PLAIN_EVERY_S = 30.0


class Display:
    """A context manager that shows a sweep's progress from its own thread; nothing if `quiet`."""

    def __init__(self, controller: Controller, quiet: bool) -> None:
        self._controller = controller
        plan = controller.plan
        self._name = plan.spec.name
        self._objective = plan.spec.objective
        self._unit = UNITS[plan.units[self._objective.metric]]
        self._horizon = plan.horizon  # samples of a whole trial, None if unknown
        self._quiet = quiet
        self._console = Console()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="display", daemon=True)
        self._began = time.monotonic()
        self._samples_at_begin = self._samples()

    def __enter__(self) -> Display:
        if not self._quiet:
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _work(self) -> None:
        if self._console.is_terminal:
            with Live(self.table(), console=self._console, auto_refresh=False) as live:
                while not self._stop.wait(REFRESH_S):
                    live.update(self.table(), refresh=True)
                live.update(self.table(), refresh=True)
            return
        self._print_line()
        while not self._stop.wait(PLAIN_EVERY_S):
            self._print_line()
        self._print_line()

    def _print_line(self) -> None:
        self._console.print(self.line(), highlight=False, soft_wrap=True)

    def line(self) -> str:
        """The state of the whole sweep in one line."""
        counts = Counter(trial.status for trial in self._trials())
        parts = [f"{counts[status]} {status.replace('_', ' ')}" for status in _STATUSES if counts[status]]
        best = self._best(self._trials())
        value = f", best {self._objective.metric} {self._text(best[0])} ({best[1]})" if best else ""
        return f"{self._name}: {', '.join(parts) or 'nothing planned yet'}{value}, {self._clock()}"

    def table(self) -> Group:
        """The state of the sweep as a table with one row per arm."""
        table = Table(title=None, box=None, pad_edge=False, header_style="bold")
        for heading in (
            "arm",
            "running",
            "done",
            "pruned",
            "failed",
            "waiting",
            f"best {self._objective.metric}",
        ):
            table.add_column(heading, justify="left" if heading == "arm" else "right")
        by_arm: dict[str, list[TrialState]] = {}
        for trial in self._trials():
            by_arm.setdefault(trial.arm, []).append(trial)
        leader = self._best(self._trials())
        for arm, trials in by_arm.items():
            counts = Counter(trial.status for trial in trials)
            best = self._best(trials)
            value = self._text(best[0]) if best else "-"
            style = "bold green" if leader and best and best[0] == leader[0] else ""
            table.add_row(
                arm,
                str(counts["running"] or "-"),
                str(counts["completed"] or "-"),
                str(counts["pruned"] or "-"),
                str(counts["failed"] + counts["diverged"] or "-"),
                str(counts["not_started"] + counts["interrupted"] or "-"),
                Text(value, style=style),
            )
        return Group(Text(f"{self._name}  {self._clock()}", style="bold"), table)

    def _trials(self) -> list[TrialState]:
        return list(self._controller.state.trials.values())

    def _text(self, value: float) -> str:
        return f"{self._unit.text(value)}{self._unit.suffix}"

    def _best(self, trials: list[TrialState]) -> tuple[float, str] | None:
        """The best value of the objective so far, and the trial that has it; None before the first report."""
        values = [(best[0], trial) for trial in trials if (best := self._best_of(trial)) is not None]
        if not values:
            return None
        choose = max if self._objective.mode == "max" else min
        value, trial = choose(values, key=lambda pair: pair[0])
        return value, f"{trial.arm} seed {trial.seed}"

    def _best_of(self, trial: TrialState) -> tuple[float, int] | None:
        return trial.best(self._objective.metric, self._objective.mode)

    def _samples(self) -> float:
        return sum(trial.last.get("samples", 0.0) for trial in self._trials())

    def _clock(self) -> str:
        elapsed = time.monotonic() - self._began
        left = self.seconds_left(elapsed)
        ahead = "" if left is None else f", about {duration(int(left))} left"
        return f"{duration(int(elapsed))} elapsed{ahead}"

    def seconds_left(self, elapsed: float) -> float | None:
        """Seconds until the sweep ends if no further trial stops early, at the rate of samples so far; None
        if the rate or the horizon is unknown. `elapsed` is in seconds, since this launch began."""
        trained = self._samples() - self._samples_at_begin
        if self._horizon is None or trained <= 0:
            return None
        remaining = sum(
            self._horizon - trial.last.get("samples", 0.0) for trial in self._trials() if not trial.ended
        )
        remaining += self._horizon * self._controller.unplanned_trials
        return elapsed * remaining / trained


_STATUSES: tuple[Status, ...] = (
    "running",
    "completed",
    "pruned",
    "diverged",
    "failed",
    "interrupted",
    "not_started",
)
