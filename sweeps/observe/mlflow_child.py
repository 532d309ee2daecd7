"""The process that writes a running sweep to MLflow: `python -m sweeps.observe.mlflow_child DIR/NAME`.

A launch starts it (`observe.mlflow_process`), so that a store that is slow or dead costs no training.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TextIO

from sweeps.observe.mlflow_process import ATTACH
from sweeps.observe.mlflow_runs import absolute_uri, remove_unfinished
from sweeps.observe.mlflow_writer import MlflowWriter, writing
from sweeps.record.secrets import LogFormatter

logger = logging.getLogger(__name__)


def main() -> int:
    """Follow the journal of the sweep in the folder that is the only argument.

    The first line on standard input is a JSON object with `uri` and `checkpoints`: a URI may hold a password,
    and every user of a machine sees a process's arguments. The line ATTACH ends the process when all is
    written, and the end of the input, as the launch's death brings it, ends it at once.
    """
    parser = argparse.ArgumentParser(prog="python -m sweeps.observe.mlflow_child", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="the sweep's folder, DIR/NAME")
    folder = parser.parse_args().folder
    for kind in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)  # the launch decides when this ends
    os.nice(10)  # training goes first: the tables of a new store take a core for seconds
    options = json.loads(sys.stdin.readline() or "null")
    if options is None:
        return 1
    log = logging.StreamHandler()
    log.setFormatter(LogFormatter(options["uri"]))
    logging.basicConfig(level=logging.WARNING, handlers=[log])
    ending = threading.Event()
    threading.Thread(target=_listen, args=(sys.stdin, ending, options["uri"]), daemon=True).start()
    try:
        with writing(folder, timeout_s=60.0):  # the process of a launch that was killed is about to end
            writer = MlflowWriter(folder, **options)
            writer.follow(ending)
            writer.attach()
    except Exception:
        logger.exception("MLflow")
        return 1
    return 0


def _listen(lines: TextIO, ending: threading.Event, uri: str) -> None:
    for line in lines:
        if line.strip() == ATTACH:
            ending.set()
    remove_unfinished(absolute_uri(uri))
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
