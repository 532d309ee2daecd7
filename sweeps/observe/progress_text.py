"""A sweep's progress as a line and as a table, which fit any terminal and any number of arms."""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from analysis.format import UNITS, duration
from sweeps.observe.progress import ArmProgress, Progress
from sweeps.record.state import Status

NARROW = 90  # columns, below which the metric stands above the table and not in its header
FEWEST_NAME = 12  # columns of an arm's name at the least
STATUSES: tuple[Status, ...] = (
    "running",
    "completed",
    "pruned",
    "diverged",
    "failed",
    "interrupted",
    "not_started",
)


def line(progress: Progress) -> str:
    """The progress of the whole sweep in one line."""
    best = progress.best
    value = (
        f", best {progress.metric} {value_text(progress, best)} ({best.name}{tied_text(progress)})"
        if best
        else ""
    )
    counts = counts_text(progress) or "nothing planned yet"
    return f"{progress.name}: {counts}{value}, {clock_text(progress)}"


def counts_text(progress: Progress) -> str:
    """The trials by status, such as "2 running, 3 completed"."""
    counts = progress.trials
    return ", ".join(
        f"{counts[status]} {status.replace('_', ' ')}" for status in STATUSES if counts.get(status)
    )


def clock_text(progress: Progress) -> str:
    """The time worked, and the time left if it is known."""
    left = f", about {duration(int(progress.left_s))} left" if progress.left_s else ""
    start = "starting Ray, " if progress.is_starting else ""
    return f"{start}{duration(int(progress.elapsed_s))} elapsed{left}"


def value_text(progress: Progress, arm: ArmProgress) -> str:
    """The arm's value in its unit; a dash where it has none."""
    if arm.value is None:
        return "-"
    unit = UNITS[progress.unit]
    return f"{unit.text(arm.value)}{unit.suffix}"


def tied_text(progress: Progress) -> str:
    """What follows the best arm's name where others have the same value: ", tied with 3 other arms"."""
    best = progress.best
    alike = [
        arm
        for arm in progress.arms
        if best and (arm.value, arm.is_evidence) == (best.value, best.is_evidence)
    ]
    others = len(alike) - 1
    return f", tied with {others} other arm{'s' * (others > 1)}" if others > 0 else ""


def table(progress: Progress, width: int, most_arms: int) -> Group:
    """The progress as a table with a row an arm, `width` columns wide: the first `most_arms` by rank where
    there are more."""
    arms = list(progress.arms) if len(progress.arms) <= most_arms else progress.ranked()[:most_arms]
    grid = Table(title=None, box=None, pad_edge=False, header_style="bold")
    narrow = width < NARROW
    headings = ("running", "done", "pruned", "failed", "waiting", "value" if narrow else progress.metric)
    grid.add_column("arm", no_wrap=True)
    for heading in headings:
        grid.add_column(heading, justify="right", no_wrap=True)
    has_evidence = any(arm.is_evidence for arm in progress.arms)
    rows = [_row(progress, arm, has_evidence) for arm in arms]
    widths = [max(map(len, column)) + 2 for column in zip(headings, *rows, strict=True)]
    for arm, row in zip(arms, rows, strict=True):
        leads = progress.best is not None and arm.name == progress.best.name
        name = elided(arm.name, max(FEWEST_NAME, width - sum(widths)))
        grid.add_row(name, *row[:-1], Text(row[-1], style="bold green" if leads else ""))
    title = elided(progress.name, max(FEWEST_NAME, width - 2 - cell_len(clock_text(progress))))
    parts: list[Text | Table] = [Text(f"{title}  {clock_text(progress)}", style="bold"), grid]
    if narrow:
        parts.insert(1, Text(elided(f"value: {progress.metric}", width)))
    if len(arms) < len(progress.arms):
        parts.append(Text(f"and {len(progress.arms) - len(arms):,} more arms"))
    if any(row[-1].startswith("(") for row in rows):
        parts.append(Text(elided("in brackets: the best so far, before any evidence", width)))
    elif progress.best is not None and not has_evidence:
        parts.append(Text(elided("values: each arm's best trial; the report ranks by means", width)))
    return Group(*parts)


def _row(progress: Progress, arm: ArmProgress, has_evidence: bool) -> tuple[str, ...]:
    """The cells of an arm, after its name. In brackets: the value of an arm that has no evidence yet, where
    others have some."""
    counts, value = arm.trials, value_text(progress, arm)
    numbers = (
        counts.get("running", 0),
        counts.get("completed", 0),
        counts.get("pruned", 0),
        counts.get("failed", 0) + counts.get("diverged", 0),
        counts.get("not_started", 0) + counts.get("interrupted", 0),
    )
    in_brackets = has_evidence and not arm.is_evidence and arm.value is not None
    return (*(str(number or "-") for number in numbers), f"({value})" if in_brackets else value)


def elided(text: str, width: int) -> str:
    """The text in at most `width` columns of a terminal, with its middle left out if it is longer."""
    if cell_len(text) <= width:
        return text
    head, tail = "", ""
    while True:  # one character more at the shorter end, as long as they fit
        longer_head = cell_len(head) <= cell_len(tail)
        rest = text[len(head) : len(text) - len(tail)]
        grown = (head + rest[0], tail) if longer_head else (head, rest[-1] + tail)
        if cell_len(grown[0]) + cell_len(grown[1]) + 1 > width:
            return f"{head}…{tail}"
        head, tail = grown
