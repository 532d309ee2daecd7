"""The progress display during a run: a live table in a terminal or a notebook, else a line every
PLAIN_EVERY_S."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.style import Style
from rich.text import Text

from sweeps.observe.progress import Tracker
from sweeps.observe.progress_text import line, table

REFRESH_S = 0.5
NOTEBOOK_EVERY_S = 2.0
PLAIN_EVERY_S = 30.0
MORE_LINES = 6  # of the table, besides its arms
NOTEBOOK_SIZE = (110, 40)  # columns and lines: a notebook has none of its own


class Display:
    """A context manager that shows a sweep's progress from its own thread; nothing if `quiet`.

    `link` returns the sweep's page in MLflow once it is known, '' before; it is shown once, above the table.
    `waits_for` says what trials wait for that no node has; '' if nothing.
    """

    def __init__(
        self,
        tracker: Tracker,
        quiet: bool,
        link: Callable[[], str] = str,
        waits_for: Callable[[], str] = str,
    ) -> None:
        self._tracker = tracker
        self._waits_for = waits_for
        self._quiet = quiet
        self._link: Callable[[], str] | None = link  # None once it is shown
        self._console = Console()
        self._cell: Any = None  # of a notebook: what it displays can be updated
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="display", daemon=True)

    def __enter__(self) -> Display:
        if not self._quiet:
            if self._console.is_jupyter:
                from IPython.display import display

                show: Any = display
                self._cell = show(self._notebook_text(), raw=True, display_id=True)
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _work(self) -> None:
        if self._cell is not None:
            while not self._stop.wait(NOTEBOOK_EVERY_S):
                self._cell.update(self._notebook_text(), raw=True)
            self._cell.update(self._notebook_text(), raw=True)
            return
        if self._console.is_terminal:
            with Live(self.table(), console=self._console, auto_refresh=False) as live:
                while not self._stop.wait(REFRESH_S):
                    self._show_link()
                    live.update(self.table(), refresh=True)
                live.update(self.table(), refresh=True)
            return
        self._print_line()
        due = time.monotonic() + PLAIN_EVERY_S
        while not self._stop.wait(REFRESH_S):
            self._show_link()
            if time.monotonic() >= due:
                self._print_line()
                due += PLAIN_EVERY_S
        self._print_line()

    def _show_link(self) -> None:
        """Print the link once it is known, as one that a terminal opens even where it is wrapped."""
        if self._link is not None and (link := self._link()):
            self._link = None
            text = Text.assemble("MLflow: ", (link, Style(link=link)))
            self._console.print(text, soft_wrap=True, highlight=False)

    def _print_line(self) -> None:
        self._console.print(self.line(), highlight=False, soft_wrap=True, markup=False)

    def line(self) -> str:
        """The state of the whole sweep in one line."""
        waits = self._waits_for()
        return line(self._tracker.snapshot(time.time(), or_judged=True)) + (f"; {waits}" if waits else "")

    def table(self) -> Group:
        """The state of the sweep as a table with one row per arm."""
        width, height = NOTEBOOK_SIZE if self._console.is_jupyter else self._console.size
        progress = self._tracker.snapshot(time.time(), or_judged=True)
        shown, waits = table(progress, width, max(1, height - MORE_LINES)), self._waits_for()
        return Group(shown, Text(waits, style="yellow")) if waits else shown

    def _notebook_text(self) -> dict[str, str]:
        """The table by its MIME types. Rich's own live display needs ipywidgets in a notebook."""
        console = Console(width=NOTEBOOK_SIZE[0], force_jupyter=False, force_terminal=False)
        with console.capture() as capture:
            console.print(self.table())
        text = capture.get()
        return {"text/plain": text, "text/html": f"<pre>{html.escape(text)}</pre>"}
