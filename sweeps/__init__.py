"""Ablation sweeps: a search space in YAML, planned, scheduled by Ray Tune, recorded, and reported.

    from sweeps import run
    outcome = run("smoke", storage="results")  # or the path of a search space of your own

Start reading in `sweeps.launch`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.observe.summary import Outcome


def run(space: Path | str, **options: Any) -> Outcome:
    """Launch a sweep, write its report, and return what came of it.

    `space` is a YAML file, or the name of a search space that is shipped. `options` are those of the command,
    with underscores: `name="again", max_concurrent=2`; `overrides` holds what `--set` takes. Raises
    SpecError for bad input, with nothing written.
    """
    from sweeps.launch import LaunchOptions, launch  # not at the top: Ray's workers import this package too

    return launch(LaunchOptions(Path(space), **options))
