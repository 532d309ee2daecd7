"""From a sweep's results to evidence: load them, compare arms, draw figures, write the report.

from analysis import load_sweep, rank_arms
rank_arms(load_sweep("results/smoke"))
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXPORTS = {
    "load_sweep": "analysis.sweep",
    "rank_arms": "analysis.compare.ranking",
    "write_report": "analysis.report.build",
}
__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    """Loaded when asked for: `analysis.inference` must be had without pandas."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}: it offers {', '.join(_EXPORTS)}")
    return getattr(import_module(_EXPORTS[name]), name)
