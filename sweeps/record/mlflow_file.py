"""mlflow.json: how much of a sweep's journal an MLflow store has, and which runs it has there.

Only the writer to MLflow (`sweeps.observe.mlflow_writer`) writes it; tables, page, status and messages read
it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sweeps.record.files import atomic_write

FILE = "mlflow.json"
DEFAULT_STORE = "sqlite:///mlflow.db"  # of a launch that names none


@dataclass
class MlflowFile:
    """The content of mlflow.json, for one store.

    `store` is its URI without passwords. `offset` is in bytes: the journal's events before it are in the
    store. `runs` has the run id of each trial. Links hold no secret.
    """

    store: str = ""
    experiment_id: str = ""
    parent_run_id: str = ""
    offset: int = 0
    link: str = ""  # MLflow's page of the evidence, or of all trials if there is one phase
    search_link: str = ""  # of the search, if there are two phases
    runs: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what the store refused for good
    error: str = ""  # why the store cannot be reached at the moment, or ''

    def write(self, folder: Path) -> None:
        with atomic_write(folder / FILE) as staging:
            staging.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> MlflowFile:
        """Of a sweep that has none, an empty one."""
        try:
            return cls.parse((folder / FILE).read_bytes())
        except OSError:
            return cls()

    @classmethod
    def parse(cls, content: bytes) -> MlflowFile:
        """From the file's content. A damaged one is like none: it can be made again."""
        try:
            return cls(**json.loads(content))
        except (ValueError, TypeError):
            return cls()
