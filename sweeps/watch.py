"""`watch`: the live table of a sweep that another process runs."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live

from sweeps.observe.console import MORE_LINES, PLAIN_EVERY_S
from sweeps.observe.progress_text import line, table
from sweeps.record.state import RUNNING
from sweeps.sweep_status import SweepReader, SweepStatus

REFRESH_S = 1.0


def watch(reader: SweepReader, console: Console, wait: Callable[[float], None] = time.sleep) -> SweepStatus:
    """Show the sweep until no process runs it: a table in a terminal, else a line every PLAIN_EVERY_S.
    Returns its last status."""
    if not console.is_terminal:
        return _watch_plain(reader, console, wait)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            status = reader.status(or_judged=True)
            size = console.size
            shown = table(status.progress, size.width, max(1, size.height - MORE_LINES))
            live.update(shown, refresh=True)
            if status.state != RUNNING:
                return status
            wait(REFRESH_S)


def _watch_plain(reader: SweepReader, console: Console, wait: Callable[[float], None]) -> SweepStatus:
    printed = -PLAIN_EVERY_S
    while True:
        status = reader.status(or_judged=True)
        over = status.state != RUNNING
        if over or time.monotonic() - printed >= PLAIN_EVERY_S:
            printed = time.monotonic()
            console.print(line(status.progress), highlight=False, soft_wrap=True, markup=False)
        if over:
            return status
        wait(REFRESH_S)
