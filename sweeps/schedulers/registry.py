"""The table of schedulers. Adding one is a file beside this one and its name here; see docs/extending.md.

The file NAME.py holds one Scheduler whose `kind` is NAME. The YAML's schema, its messages, the preview and
the tests take it from here.
"""

from __future__ import annotations

from pydantic.fields import FieldInfo

from sweeps.schedulers.base import Scheduler
from trm.settings.registered import configs_in

NAMES = (
    "asha",
    "median",
    "fixed",
    "fifo",
)

SCHEDULERS = configs_in("sweeps.schedulers", NAMES, Scheduler, "kind")  # type: ignore[type-abstract]


def own_keys() -> dict[str, FieldInfo]:
    """The keys that belong to some kinds only. Raises TypeError where two kinds give one different defaults,
    as the YAML has one key."""
    found: dict[str, FieldInfo] = {}
    for kind, scheduler in SCHEDULERS.items():
        for key in (key for key in scheduler.model_fields if key in scheduler.own_keys()):
            field = scheduler.model_fields[key]
            if repr(found.setdefault(key, field)) != repr(field):
                raise TypeError(f"sweeps.schedulers.{kind}: {key} is another kind's too: declare it alike")
    return found
