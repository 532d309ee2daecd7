"""Ablation sweeps: a search space in YAML, planned, scheduled by Ray Tune, recorded, and reported.

    from sweeps import load, run, status
    outcome = run("smoke", storage="results")  # or the path of a search space of your own
    outcome.ranking                            # a DataFrame, a row an arm
    status("smoke")["best"]                    # from any process, while it runs or after
    load("smoke").trials                       # a DataFrame, a row a trial

Start reading in `sweeps.launch`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.record.file_names import DEFAULT_STORAGE

if TYPE_CHECKING:
    from analysis.sweep import Sweep
    from sweeps.observe.summary import Outcome

# The functions import what they need, as Ray's workers import this package too.


def run(space: Path | str, **options: Any) -> Outcome:
    """Launch a sweep and write its report. Prints what the command prints; in a notebook the progress is a
    table.

    `space` is a YAML file, or the name of a shipped search space. `options` are the command's options with
    underscores: `name="again", max_concurrent=2`; `overrides` is a tuple of the values of `--set`. The
    outcome has the exit status, the sweep's folder, the ranking as text and as a DataFrame, and the notes.
    Raises SpecError for bad input; nothing has been written then.
    """
    from sweeps.launch import launch
    from sweeps.options import LaunchOptions

    return launch(LaunchOptions(Path(space), **options))


def status(name: str, storage: str | Path = DEFAULT_STORAGE) -> dict[str, Any]:
    """What `python -m sweeps status NAME --json` prints, as a dictionary; times are in seconds.

    `storage` is a folder or a URL. Raises SpecError if it has no sweep of this name.
    """
    from sweeps.sweep_status import read_status

    return read_status(name, storage).as_json()


def load(name: str, storage: str | Path = DEFAULT_STORAGE) -> Sweep:
    """The sweep's tables as recorded now, while it runs too: `trials` has a row a trial, `history` a row a
    report (pandas).

    `storage` is a folder or a URL. Raises SpecError if it has no sweep of this name.
    """
    from sweeps import report
    from sweeps.record.storage import Storage
    from sweeps.sweep_status import check_known, is_running

    place = Storage(storage)
    check_known(place, name)
    return report.load(place.files(name), name, is_running(place, name))
