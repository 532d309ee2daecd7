"""The toy trainer, which cannot run on a node that has SICK_NODE in its environment: its process dies at once
(`dies`), or it cannot be imported (`broken`)."""

from __future__ import annotations

import os
from typing import Any

from tests.sweeps import toy_trainer
from tests.sweeps.toy_trainer import ToyConfig, describe

__all__ = ["describe", "train"]

if os.environ.get("SICK_NODE") == "broken":
    raise ImportError("a library is missing here")


def train(config: ToyConfig, trial: Any) -> None:
    if os.environ.get("SICK_NODE") == "dies":
        os._exit(9)
    toy_trainer.train(config, trial)
