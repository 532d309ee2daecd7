"""The configs of trials: one trial's values, and how two trials differ, for a terminal and for programs."""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.format import aligned, few
from analysis.sweep import AnalysisError, Sweep, load_sweep

ABSENT = "(absent)"
_HEAD = ("folder", "trial_id", "arm", "draw", "seed")


@dataclass(frozen=True)
class Side:
    """One of two trials that are compared: what it is, under the names in _HEAD, and its config by dotted
    key."""

    trial: dict[str, Any]
    config: dict[str, Any]


def config_of(sweep: Sweep, trial_id: str) -> dict[str, Any]:
    """The trial's config by dotted key, with its values as they were before they became cells.

    Raises AnalysisError if the sweep has no such trial, or the trial has not started.
    """
    rows = sweep.configs[sweep.configs["trial_id"] == trial_id].to_dict("records")
    as_json = set(sweep.configs.attrs["json"])
    cells = {str(key): cell for row in rows for key, cell in row.items() if not pd.isna(cell)}
    if cells.pop("trial_id", None) is None:
        raise AnalysisError(f"{sweep.folder}: no trial has the id {trial_id!r}: see `trials.trial_id`")
    if not cells:
        raise AnalysisError(
            f"{sweep.folder}: {trial_id} has not started, so that no config is recorded of it"
        )
    return {key: json.loads(cell) if key in as_json else cell for key, cell in cells.items()}


def find_trial(sweep: Sweep, given: str) -> str:
    """The id that is `given`, or the only one that begins so. Raises AnalysisError."""
    ids = list(sweep.trials["trial_id"])
    begun = [given] if given in ids else [trial_id for trial_id in ids if trial_id.startswith(given)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise AnalysisError(
            f"{sweep.folder}: {len(begun)} trials begin with {given!r}: {few(begun)}: name one"
        )
    near = difflib.get_close_matches(given, ids, n=1, cutoff=0.0)
    hint = f"did you mean {near[0]}?" if near else "it has none yet"
    raise AnalysisError(f"{sweep.folder}: no trial's id is {given!r} or begins so: {hint}")


def differing_keys(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The keys that only one of the configs has, or that have different values, in the configs' order."""
    return [
        key
        for key in dict.fromkeys([*one, *other])
        if key not in one or key not in other or not _equal(one[key], other[key])
    ]


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are equal: 1 and 1.0 are, 1 and true are not, in lists neither."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def diff_text(one: str, other: str, as_json: bool = False) -> str:
    """How the configs of two trials differ: a table, or a JSON object.

    `one` is DIR/TRIAL, where DIR is a sweep's folder and TRIAL an id or the beginning of one; so is `other`,
    or a TRIAL of the same sweep. Raises AnalysisError if one of them is not found or has not started.
    """
    folder, given = os.path.split(one)
    if not folder:
        raise AnalysisError(f"{one} names no sweep: give DIR/TRIAL, such as results/smoke/{one}")
    sweep = load_sweep(folder)
    other_folder, other_given = os.path.split(other)
    other_sweep = load_sweep(other_folder) if other_folder else sweep
    a, b = _side(sweep, given), _side(other_sweep, other_given)
    keys = differing_keys(a.config, b.config)
    return _as_json(a, b, keys) if as_json else _table(a, b, keys)


def _side(sweep: Sweep, given: str) -> Side:
    trial_id = find_trial(sweep, given)
    row = sweep.trials.set_index("trial_id").loc[trial_id]
    numbers = {name: None if pd.isna(row[name]) else int(row[name]) for name in ("draw", "seed")}
    trial = {"folder": str(sweep.folder), "trial_id": trial_id, "arm": row["arm"], **numbers}
    return Side(trial, config_of(sweep, trial_id))


def _as_json(a: Side, b: Side, keys: list[str]) -> str:
    """A key that a trial's config lacks is absent here too; null is a value."""
    sides = {"a": a, "b": b}
    differs = {
        key: {name: side.config[key] for name, side in sides.items() if key in side.config} for key in keys
    }
    content = {name: side.trial for name, side in sides.items()} | {"differs": differs}
    return json.dumps(content, indent=2, allow_nan=False)


def _table(a: Side, b: Side, keys: list[str]) -> str:
    head = [["", "A", "B"], *([name, str(a.trial[name]), str(b.trial[name])] for name in _HEAD)]
    rows = [[key, *(_cell(side.config, key) for side in (a, b))] for key in keys]
    lines = aligned([*head, [""] * 3, *rows])
    return "\n".join(lines if rows else [*lines, "same config"])


def _cell(config: dict[str, Any], key: str) -> str:
    """A text stands as it is, unless it would then read as another value or as an absent key."""
    if key not in config:
        return ABSENT
    value = config[key]
    return (
        value if isinstance(value, str) and _reads_as_text(value) else json.dumps(value, ensure_ascii=False)
    )


def _reads_as_text(value: str) -> bool:
    try:
        json.loads(value)
    except ValueError:
        return value.isprintable() and value.strip() == value != ABSENT and value != ""
    return False
