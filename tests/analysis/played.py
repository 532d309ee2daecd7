"""Folders of sweeps whose evidence the real controller decided: trials of the toy trainer, played by hand."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from sweeps.record.folder import write_space
from sweeps.record.state import read_state
from sweeps.record.tables import write_results
from tests.sweeps.playing import EIGHT, FOUR, Value, play, value
from tests.sweeps.spaces import toy_plan


def played(folder: Path, of: Value = value, **changes: Any) -> Path:
    """The results of the toy space with these changes, by default four arms on eight seeds.

    `of(arm, seed)` is a trial's last value; NaN: it diverges. Results that are in `folder` already are
    extended.
    """
    plan = toy_plan(folder, **{"ablate": FOUR, "seeds": EIGHT, **changes})
    results = folder / "results" / plan.spec.name
    results.mkdir(parents=True, exist_ok=True)
    extended = (results / "sweep.yaml").exists()
    play(plan, results / "journal.jsonl", random.Random(0), of=of)
    space = write_space(plan, results, data="", extended=extended)
    write_results(results, read_state(results / "journal.jsonl"), space)
    return results
