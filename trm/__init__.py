"""TRM, the Tiny Recursive Model (arXiv 2510.04871), with replaceable token mixers, and its trainer.

`trm.load(folder)` is the model of a trial's checkpoint, or of a folder that `python -m trm convert` or
`export` wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trm.trained import Trained, load

__version__ = "0.2.0"
__all__ = ["Trained", "load"]


def __getattr__(name: str) -> Any:
    """`load` and its result, imported when they are asked for: a config is read without torch."""
    if name in __all__:
        from trm import trained

        return getattr(trained, name)
    raise AttributeError(f"module 'trm' has no attribute {name!r}")
