"""The names of columns, and which names a metric, factor or tuned value must not have."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection

TRIAL_COLUMNS = [
    "trial_id", "arm", "draw", "phase", "seed", "status", "reason",
    "num_params", "flops_per_sample", "samples", "flops", "wall_s", "mlflow_run_id",
]  # fmt: skip
HISTORY_COLUMNS = ["trial_id", "step", "samples", "flops", "wall_s"]
REPORTED = {"step", "samples", "flops", "wall_s"}  # columns that a trainer fills by reporting this metric
_EVENT_FIELDS = {"time", "event"}
RESERVED = ({*TRIAL_COLUMNS, "best_step", "audited"} | _EVENT_FIELDS) - REPORTED

_MLFLOW_NAME = re.compile(r"[A-Za-z0-9_\-. :/]{1,250}")


def same_name(name: str, factors: Collection[str]) -> str:
    """Why a metric cannot have the name of a factor (one of `factors`) or of a tuned value, to follow it in a
    message."""
    section = "ablate" if name in factors else "tune"
    return f"is also the name of {section}.{name}, and both are columns of the tables: rename the metric"


def name_problem(name: str, reserved: set[str]) -> str:
    """Why `name` cannot be the name of a metric or factor, to follow it in a message; '' if it can."""
    if name in reserved or name.startswith("best/"):
        return "is a column of the tables: rename it"
    path_like = posixpath.normpath(name) == name != "." and not name.startswith(("/", ".."))
    if not _MLFLOW_NAME.fullmatch(name) or not path_like:
        return (
            "is not a name that MLflow accepts: use letters, digits, '_', '-', '.', ':', ' ' and '/' between "
            "parts"
        )
    return ""
