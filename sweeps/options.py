"""The options of one launch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from sweeps.observe.mlflow_runs import check_uri
from sweeps.observe.notify import webhook
from sweeps.record.file_names import DEFAULT_STORAGE
from sweeps.record.mlflow_file import DEFAULT_STORE
from sweeps.space.errors import SpecError


@dataclass(frozen=True)
class LaunchOptions:
    """The arguments of one launch: the command's options, with underscores."""

    space: Path
    dry_run: bool = False
    calibrate: bool = False
    resume: bool = False
    extend: bool = False
    reuse: bool = False
    name: str | None = None
    storage: str = DEFAULT_STORAGE  # a folder, or a URL that fsspec can open
    tracking_uri: str = DEFAULT_STORE
    address: str | None = None
    max_concurrent: int | None = None
    grace: float = 20.0  # seconds
    notify: str | None = None
    overrides: tuple[str, ...] = ()
    quiet: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "storage", str(self.storage))  # from Python it may be a Path

    def check(self) -> None:
        """Raise SpecError for an option that cannot be used, whatever the search space."""
        if isinstance(self.overrides, str):
            raise SpecError(
                f"overrides {self.overrides!r}: must be a tuple of texts: give ({self.overrides!r},)"
            )
        if self.max_concurrent is not None and self.max_concurrent < 1:
            raise SpecError(f"--max-concurrent {self.max_concurrent}: must be 1 or more")
        if not 0 <= self.grace < math.inf:
            raise SpecError(f"--grace {self.grace}: must be 0 or more seconds")
        if (self.address or "").startswith("ray://"):
            raise SpecError(
                f"--address {self.address}: Ray Client would run the driver on the cluster: give "
                f"HOST:PORT, on a machine that has joined the cluster"
            )
        check_uri(self.tracking_uri)
        if self.notify is not None:
            webhook(self.notify)
