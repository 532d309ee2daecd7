"""The toy trainer, which cannot run on a node that has SICK_NODE in its environment: its process dies at once
(`dies`), it cannot be imported (`broken`), or the data are not there (`no-data`) or others (`other-data`)."""

from __future__ import annotations

import os
from typing import Any

from tests.sweeps import toy_trainer
from tests.sweeps.toy_trainer import ToyConfig, describe

__all__ = ["check", "describe", "train"]

if os.environ.get("SICK_NODE") == "broken":
    raise ImportError("a library is missing here")


def check(config: ToyConfig) -> str:
    sick = os.environ.get("SICK_NODE")
    if sick == "no-data":
        raise FileNotFoundError("/data/train.csv is not there")
    return "of other data" if sick == "other-data" else "of the data"


def train(config: ToyConfig, trial: Any) -> None:
    if os.environ.get("SICK_NODE") == "dies":
        os._exit(9)
    toy_trainer.train(config, trial)
