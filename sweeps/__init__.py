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
    """Launch a sweep and write its report.

    `space` is a YAML file, or the name of a shipped search space. `options` are the command's options with
    underscores: `name="again", max_concurrent=2`; `overrides` is a tuple of the values of `--set`. Raises
    SpecError for bad input; nothing has been written then.
    """
    from sweeps.launch import launch  # here, as Ray's workers import this package too
    from sweeps.options import LaunchOptions

    return launch(LaunchOptions(Path(space), **options))
