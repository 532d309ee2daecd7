"""A trainer that does what trainers should not: `tests.sweeps.execute.unruly_trainer:train`."""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import re
import sys
import time
import warnings
from typing import Any

from pydantic import BaseModel, ConfigDict

MANY = 30  # different warnings
LONG_MESSAGE = "\n".join(["CUDA error: an illegal memory access", *["more"] * 2000, "Compile with DSA"])


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    does: str = "nothing"


class TwoArguments(Exception):
    """It cannot be unpickled: pickle would call it with its message alone."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(f"code {code}\n{what}")


def train(config: Config, trial: Any) -> None:
    if config.does == "misuses":
        trial.report({"step": 1, "samples": 10, "accuracy": "12.5"})
    _ACTS[config.does]()
    for step in (1, 2):
        trial.report({"step": step, "samples": 10 * step, "accuracy": 0.1 * step})


def _raises() -> None:
    raise TwoArguments(7, "the second line")


def _raises_at_length() -> None:
    raise RuntimeError(LONG_MESSAGE)


def _prints() -> None:
    print("from Python, to stdout")
    print("from Python, to stderr", file=sys.stderr)
    ctypes.CDLL(None).printf(b"from C, to stdout\n")
    os.system("echo from a child")


def _prints_and_dies() -> None:
    print("the last words", end="")
    os._exit(9)


def _warns() -> None:
    for number in range(MANY):
        logging.getLogger("unruly").warning("warning %d: %s", number, "x" * 400)


def _warns_otherwise() -> None:
    warnings.warn("this way is slow", stacklevel=1)


def _moves() -> None:
    os.chdir("/")
    os.umask(0o777)
    os.environ["UNRULY"] = "left behind"
    os.environ["HOME"] = "/nowhere"
    del os.environ["PATH"]


def _moves_and_raises() -> None:
    _moves()
    raise RuntimeError("and raises")


_ACTS = {
    "nothing": lambda: None,
    "raises": _raises,
    "raises at length": _raises_at_length,
    "prints": _prints,
    "prints and dies": _prints_and_dies,
    "crashes": faulthandler._sigsegv,
    "warns": _warns,
    "warns otherwise": _warns_otherwise,
    "moves": _moves,
    "moves and raises": _moves_and_raises,
    "hangs": lambda: time.sleep(3600),
    "hangs in C": lambda: re.match(r"(a+)+$", "a" * 40 + "b"),  # for hours, and no other thread can run
}
