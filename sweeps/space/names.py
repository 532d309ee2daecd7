"""Names that tables and MLflow keep for themselves, and those that neither can take."""

from __future__ import annotations

import posixpath
import re

TRIAL_COLUMNS = [
    "trial_id", "arm", "draw", "phase", "seed", "status", "reason",
    "num_params", "flops_per_sample", "samples", "flops", "wall_s", "mlflow_run_id",
]  # fmt: skip
HISTORY_COLUMNS = ["trial_id", "step", "samples", "flops", "wall_s"]
REPORTED = {"step", "samples", "flops", "wall_s"}  # a metric may be called so, and then is it
_OF_AN_EVENT = {"time", "event"}
RESERVED = ({*TRIAL_COLUMNS, "best_step", "audited"} | _OF_AN_EVENT) - REPORTED

_TAKEN_BY_MLFLOW = re.compile(r"[A-Za-z0-9_\-. :/]{1,250}")


def name_problem(name: str, reserved: set[str]) -> str:
    """Why a metric or a factor cannot be called so; '' where it can."""
    if name in reserved or name.startswith("best/"):
        return "is a column of the tables: rename it"
    path_like = posixpath.normpath(name) == name and not name.startswith(("/", ".."))
    if not _TAKEN_BY_MLFLOW.fullmatch(name) or not path_like:
        return (
            "is no name that MLflow takes: use letters, digits, '_', '-', '.', ':', ' ' and '/' between parts"
        )
    return ""
