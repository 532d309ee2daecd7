"""`--reuse`: finds trials that another sweep under the same storage has already completed.

Two trials are equal if their effective config, seed, data, trainer and code version are equal.
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
from sweeps.record.file_names import JOURNAL, SPACE
from sweeps.record.journal import read_journal
from sweeps.record.state import SweepState, TrialState
from sweeps.record.storage import Storage
from sweeps.space.errors import SpecError
from trm import __version__
from trm.settings.yaml import load_yaml

logger = logging.getLogger(__name__)


def code_version(trainer: str) -> str:
    """What decides what a trial with a given config comes to: this package's version, and a hash of the
    sources in the trainer's top-level package; for a trainer in a single module, of the Python files in its
    folder.

    The code of `sweeps` and `analysis` is not hashed: a trial's config, seed and data are compared as they
    are, decisions that were taken are read from the journal, and a report is derived from it. So a change
    there leaves results as they are, and takes no trial from `--reuse`. A change of `sweeps` that does change
    results needs a new version.
    """
    top = trainer.partition(":")[0].partition(".")[0]
    spec = importlib.util.find_spec(top)
    assert spec is not None  # the trainer has been imported
    sources = hashlib.sha256()
    if spec.submodule_search_locations is not None:
        patterns = ("**/*.py", "**/*.c", "**/*.h")
        globs = [
            (Path(folder), pattern) for folder in spec.submodule_search_locations for pattern in patterns
        ]
    else:
        globs = [(Path(spec.origin or "").parent, "*.py")]
    for folder, pattern in globs:
        for path in sorted(folder.glob(pattern)):
            sources.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{__version__}+{sources.hexdigest()[:12]}"


@dataclass(frozen=True)
class ReusableTrial:
    """A completed trial of another sweep; `source` is SWEEP/TRIAL_ID."""

    source: str
    reports: dict[int, dict[str, float]]


class ReusableTrials:
    """The completed trials of the sweeps in `storage`, a folder or a URL, except those of the sweep `name`,
    that were run with the same trainer, code version and data."""

    def __init__(self, storage: Storage, name: str, trainer: Trainer, code: str, data: str) -> None:
        self._trainer = trainer
        self._found: dict[str, ReusableTrial] = {}
        try:
            others = [each for each in storage.names() if each != name]
        except SpecError:  # nothing is stored there yet
            others = []
        for other in others:
            try:
                with storage.snapshot(other) as folder:
                    space = load_yaml(folder / SPACE)
                    if (space["trainer"], space["resolved"]["data"]) == (trainer.name, data):
                        self._read(other, folder / JOURNAL, code)
            except Exception as error:  # a damaged sweep is not used; and each store raises its own kinds
                logger.warning("--reuse: the sweep %s is skipped (%s)", other, error)

    def _read(self, sweep: str, journal: Path, code: str) -> None:
        state, configs = SweepState(), {}
        for event in read_journal(journal):
            state.apply(event)
            if event["event"] == "launch" and event.get("code") != code:
                return  # some of its trials may have been run by other code
            if event["event"] == "start":
                configs[event["trial_id"]] = event["config"]
        for trial in state.trials.values():
            if _is_reusable(trial):
                key = self._key(configs[trial.trial_id], trial.seed)
                self._found.setdefault(key, ReusableTrial(f"{sweep}/{trial.trial_id}", trial.reports))

    def find(self, trial: TrialPlan) -> ReusableTrial | None:
        """The equal trial of another sweep, or None."""
        return self._found.get(self._key(trial.config, trial.seed))

    def _key(self, config: dict[str, Any], seed: int) -> str:
        try:
            model = self._trainer.config_model.model_validate(config)
            effective = self._trainer.describe(model).get("effective") or model.model_dump(mode="json")
        except pydantic.ValidationError:
            effective = config  # it fits an older config model, so it equals no trial of this plan
        return json.dumps([effective, seed], sort_keys=True, default=str)


def _is_reusable(trial: TrialState) -> bool:
    return trial.status == "completed" and bool(trial.reports) and not trial.reused_from
