"""The table of configs, configs.parquet: what each trial ran with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from sweeps.record.journal import read_journal
from sweeps.record.secrets import config_without_secret
from trm.settings.overrides import flatten

_ABSENT = object()
_EXACT = 2**53  # a float holds each integer up to it
_TYPES = (({bool}, "boolean"), ({int}, "Int64"), ({int, float}, "float64"), ({str}, "object"))


def configs_frame(trial_ids: Iterable[str], journal: Path) -> pd.DataFrame:
    """One row per trial: `trial_id`, then a column per dotted key of the configs, as in MLflow's params.

    The config is that of the trial's last start: the base with the horizon, the arm's levels, the tuned
    values and the seed at `seed_keys`, with the defaults of the trainer's config model. A cell is blank where
    the config has no such key, and a row where the trial has not started.

    A column has booleans (boolean), integers (Int64), numbers (float64) or texts. Where these types mix, and
    where some value is null, a list, an empty mapping or an integer beyond 2**53, every value of the column
    is JSON text: `null`, `4`, `"auto"`, `[1, 2]`. `attrs["json"]` names these columns;
    `analysis.configs.config_of` reads a trial's values back. Texts under keys that name a secret are `***`.
    A key `trial_id` of the config is left out.
    """
    started = {
        event["trial_id"]: flatten(config_without_secret(event["config"]), into_lists=True)
        for event in read_journal(journal, "start")
    }
    ids = list(trial_ids)
    configs = [started.get(trial_id, {}) for trial_id in ids]
    columns, as_json = {"trial_id": pd.Series(ids, dtype="object")}, []
    for key in dict.fromkeys(key for config in configs for key in config if key != "trial_id"):
        values = [config.get(key, _ABSENT) for config in configs]
        dtype = _type_of([value for value in values if value is not _ABSENT])
        if not dtype:
            as_json.append(key)
            values = [value if value is _ABSENT else json.dumps(value) for value in values]
        blanks = [None if value is _ABSENT else value for value in values]
        columns[key] = pd.Series(blanks, dtype=dtype or "object")
    frame = pd.DataFrame(columns)
    frame.attrs["json"] = as_json
    return frame


def _type_of(values: list[Any]) -> str:
    """The type of a column with these values; '' if it must be JSON text."""
    types = {type(value) for value in values}
    if any(type(value) is int and abs(value) > _EXACT for value in values):
        return ""
    return next((dtype for held, dtype in _TYPES if types <= held), "")
