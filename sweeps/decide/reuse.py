"""Trials that an earlier sweep under the same storage has run already: `--reuse`.

A trial is the same where its effective config, its seed, the data, the trainer and the code are.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from sweeps.plan.model import TrialPlan
from sweeps.plan.trainer import Trainer
from sweeps.record.journal import read_journal
from sweeps.record.state import SweepState, TrialState
from trm import __version__
from trm.settings.yaml import load_yaml

logger = logging.getLogger(__name__)


def code_version(trainer: str) -> str:
    """This package's version, and a hash of the sources of the package that the trainer is in; where it is in
    none, of those beside it."""
    top = trainer.partition(":")[0].partition(".")[0]
    spec = importlib.util.find_spec(top)
    assert spec is not None  # it has been imported
    found = hashlib.sha256()
    if spec.submodule_search_locations is not None:
        kinds = ("**/*.py", "**/*.c", "**/*.h")  # what a trial computes with
        sources = [(Path(place), kind) for place in spec.submodule_search_locations for kind in kinds]
    else:
        sources = [(Path(spec.origin or "").parent, "*.py")]
    for folder, pattern in sources:
        for path in sorted(folder.glob(pattern)):
            found.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{__version__}+{found.hexdigest()[:12]}"


@dataclass(frozen=True)
class ReusableTrial:
    """A completed trial of another sweep; `source` is SWEEP/TRIAL_ID."""

    source: str
    reports: dict[int, dict[str, float]]


class ReusableTrials:
    """The completed trials of the sweeps in `storage` that were made by the same code on the same data."""

    def __init__(self, storage: Path, name: str, trainer: Trainer, code: str, data: str) -> None:
        self._trainer = trainer
        self._found: dict[str, ReusableTrial] = {}
        for path in sorted(storage.glob("*/sweep.yaml")):
            if path.parent.name == name:
                continue
            try:
                space = load_yaml(path)
                if (space["trainer"], space["resolved"]["data"]) == (trainer.name, data):
                    self._read(path.parent, code)
            except (ValueError, KeyError, TypeError, OSError) as error:  # not ours to mend
                logger.warning("--reuse: %s is passed over (%s)", path.parent, error)

    def _read(self, folder: Path, code: str) -> None:
        state, configs = SweepState(), {}
        for event in read_journal(folder / "journal.jsonl"):
            state.apply(event)
            if event["event"] == "launch" and event.get("code") != code:
                return
            if event["event"] == "start":
                configs[event["trial_id"]] = event["config"]
        for trial in state.trials.values():
            if _is_whole(trial):
                key = self._key(configs[trial.trial_id], trial.seed)
                self._found.setdefault(key, ReusableTrial(f"{folder.name}/{trial.trial_id}", trial.reports))

    def find(self, trial: TrialPlan) -> ReusableTrial | None:
        return self._found.get(self._key(trial.config, trial.seed))

    def _key(self, config: dict[str, Any], seed: int) -> str:
        try:
            model = self._trainer.config_model.model_validate(config)
            effective = self._trainer.describe(model).get("effective") or model.model_dump(mode="json")
        except pydantic.ValidationError:
            effective = config  # of a trainer that has changed: no trial of today is like it
        return json.dumps([effective, seed], sort_keys=True, default=str)


def _is_whole(trial: TrialState) -> bool:
    return trial.status == "completed" and bool(trial.reports) and not trial.reused_from
