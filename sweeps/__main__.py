"""The command line: `python -m sweeps VERB`, or the console script `trm-sweeps VERB`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from sweeps.launch import launch
from sweeps.observe.summary import BAD_INPUT
from sweeps.options import LaunchOptions
from sweeps.space.errors import SpecError
from sweeps.space.shipped import shipped_names


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments and run the verb. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="trm-sweeps", description="Ablation sweeps of TRM and other trainers."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    add_run_arguments(verbs.add_parser("run", help="launch a sweep", description="Launch a sweep."))
    return run(parser.parse_args(arguments), parser.prog)


def run(arguments: argparse.Namespace, program: str) -> int:
    """Launch a sweep. Returns the exit status; bad input is one message on standard error after `program`."""
    options = {**vars(arguments), "overrides": tuple(arguments.overrides)}
    try:
        return launch(LaunchOptions(**options)).status
    except SpecError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:  # before or after the trials; while they run, Signals handles it
        return 128 + signal.SIGINT
    except BrokenPipeError:  # as with `--dry-run | head`; without this Python prints an error at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run`: the fields of LaunchOptions."""
    parser.add_argument(
        "space",
        type=Path,
        metavar="SPACE",
        help=f"the search space: a YAML file, or the name of a shipped one: {', '.join(shipped_names())}",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument(
        "--calibrate", action="store_true", help="time a few steps of each arm, print the plan and stop"
    )
    parser.add_argument("--resume", action="store_true", help="continue a sweep that did not finish")
    parser.add_argument(
        "--extend",
        action="store_true",
        help="add the space's new seeds, levels or draws to a sweep, and run them",
    )
    parser.add_argument(
        "--reuse", action="store_true", help="reuse results of equal trials of other sweeps in this storage"
    )
    parser.add_argument("--name", help="name of the sweep (default: the space's)")
    parser.add_argument(
        "--storage", default="results", metavar="DIR", help="a folder, or a URL such as s3://bucket/sweeps"
    )
    parser.add_argument(
        "--tracking-uri", default="sqlite:///mlflow.db", metavar="URI", help="the MLflow store"
    )
    parser.add_argument("--address", metavar="ADDR", help="HOST:PORT of an existing Ray cluster")
    parser.add_argument("--max-concurrent", type=int, metavar="N", help="run at most N trials at once")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="change a key of the base, such as model.h_cycles=2; may be repeated",
    )
    parser.add_argument("--notify", metavar="URL", help="post a JSON summary to this URL at the end")
    parser.add_argument("--quiet", action="store_true", help="print only the last lines")


if __name__ == "__main__":
    sys.exit(main())
