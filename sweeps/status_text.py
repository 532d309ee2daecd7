"""The status of sweeps as text for a terminal, or for a file where it is not one."""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.style import Style
from rich.table import Table
from rich.text import Text

from analysis.format import duration
from sweeps.observe.progress import Progress
from sweeps.observe.progress_text import clock_text, counts_text, elided, table, tied_text, value_text
from sweeps.record.state import RUNNING
from sweeps.space.errors import SpecError
from sweeps.sweep_status import DAMAGED, SweepStatus

DAY_S = 86_400
MOST_ARMS = 20  # of a status
WIDE = 1000  # columns, where the output is no terminal
NAME, ARM, PROBLEM = 28, 30, 70  # columns of a name, an arm and a problem in a list


def width_of(console: Console) -> int:
    """The columns that a text may take."""
    return console.width if console.is_terminal else WIDE


def status_text(status: SweepStatus, width: int) -> Group:
    """A status in words, with a table of the arms."""
    progress = status.progress
    ended = f"{progress.ended:,} of {progress.planned:,} trials ended"
    lines = [f"{elided(status.name, width // 2)}: {status.state}, {ended}"]
    lines += [f"  {heading:<9} {text}" for heading, text in _details(status, width) if text]
    lines = [elided(" ".join(line.split("\n")), width) for line in lines]
    page = Text.assemble("  mlflow    ", (status.mlflow, Style(link=status.mlflow)))
    link = [page] if status.mlflow else []
    return Group(*map(Text, lines), *link, Text(""), table(progress, min(width, 120), MOST_ARMS))


def _details(status: SweepStatus, width: int) -> list[tuple[str, str]]:
    progress, best, looks = status.progress, status.progress.best, status.looks
    leader, value = "", ""
    if best:
        kind = "mean of its evidence" if best.is_evidence else "its best trial's best value"
        leader = elided(best.name, width - 40) + tied_text(progress)
        value = f"{value_text(progress, best)}, {kind}"
    failed = [("failed", f"{trial_id}: {reason}") for trial_id, reason in status.failures]
    more = progress.trials.get("failed", 0) - len(status.failures)
    return [
        ("trials", counts_text(progress) or "none planned yet"),
        ("best", leader),
        ("", f"{progress.metric} {value}" if best else ""),
        ("looks", f"{looks[0]} taken, {looks[1]} at the most" if looks[1] else ""),
        ("time", clock_text(progress)),
        ("event", f"the last one {ago(progress)}"),
        *failed,
        ("", f"and {more:,} more" if failed and more else ""),
        ("folder", status.where),
    ]


def ago(progress: Progress, is_brief: bool = False) -> str:
    """How long ago the last event was; in brief by the largest unit alone: "3 h ago"."""
    if not progress.updated:
        return "never"
    seconds = max(0, int(time.time() - progress.updated))
    text = f"{seconds // DAY_S} days" if seconds >= 2 * DAY_S else duration(seconds)
    return f"{' '.join(text.split()[:2]) if is_brief else text} ago"


def list_text(rows: list[tuple[str, SweepStatus | SpecError]], width: int) -> Table:
    """A line a sweep."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("sweep", "state", "trials", "best", "last event"):
        grid.add_column(heading, no_wrap=True, justify="right" if heading == "trials" else "left")
    narrow = width < NAME + ARM + 50
    for name, status in rows:
        shown = Text(elided(name, NAME if not narrow else max(8, width // 5)))
        if isinstance(status, SpecError):
            problem = " ".join(str(status).split())
            grid.add_row(shown, DAMAGED, "", Text(elided(problem, PROBLEM if not narrow else width // 4)), "")
            continue
        progress = status.progress
        best = ""
        if progress.best is not None:
            value = value_text(progress, progress.best)
            best = f"{elided(progress.best.name, ARM if not narrow else max(6, width // 8))} {value}"
        ended = f"{progress.ended}/{progress.planned}"
        last = "now" if status.state == RUNNING else ago(progress, is_brief=True)
        grid.add_row(shown, status.state, ended, Text(best), last)
    return grid
