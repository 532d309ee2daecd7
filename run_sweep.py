#!/usr/bin/env python
"""Launch a sweep: `python run_sweep.py search_spaces/smoke.yaml`. See --help, and the README."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from sweeps.errors import SpecError
from sweeps.plan import Plan
from sweeps.prospects import Outlook, comparisons
from sweeps.runner import BAD_INPUT, Launch, Outcome, launch


def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    overrides = tuple(given.overrides)
    del given.overrides
    try:
        outcome = launch(Launch(**vars(given), overrides=overrides), _outlook)
        if outcome.folder is not None:
            _report(outcome, outcome.folder, given.tracking_uri, given.quiet)
        if outcome.folder is not None and outcome.storage is not None:
            trouble = outcome.storage.send(outcome.folder.name)  # with the report
            if trouble:
                print(f"Not all is where it belongs: {trouble}. The same command with --resume sends it.")
    except SpecError as error:
        print(f"run_sweep: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:  # before or after the trials; while they run, a signal is waited for
        return 128 + signal.SIGINT
    except BrokenPipeError:  # `--dry-run | head`: nobody reads on, and the interpreter is not to complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return outcome.status


def _outlook(plan: Plan, begun: Path | None = None) -> Outlook:
    """What the evidence of a plan can tell, by the spread in its pilot's results, else in those of the sweep
    that has begun. Raises SpecError where the pilot is of no use."""
    from analysis.load import AnalysisError
    from analysis.outlook import outlook

    evidence, number = plan.spec.evidence, comparisons(plan)
    of = (plan.spec.objective.metric, number, evidence.test, evidence.pairing)
    if evidence.pilot is None and begun is not None:
        with suppress(AnalysisError):  # too little of it has run to tell
            return outlook(*of, begun)
    try:
        return outlook(*of, evidence.pilot)
    except AnalysisError as error:
        raise SpecError(f"{plan.source}: evidence.pilot: {error}") from error


def _report(outcome: Outcome, folder: Path, tracking_uri: str, quiet: bool) -> None:
    """Write the report beside the tables, show MLflow, and say where everything is."""
    from analysis.load import AnalysisError
    from analysis.report import write_report
    from analysis.summary import ranking_text, write_summary

    try:
        write_summary(folder)
        report = write_report(folder)
        if not quiet:
            print(ranking_text(folder))
        print(f"Report: {report}")
    except (AnalysisError, OSError) as error:  # a full disk is no reason to end otherwise than the trials did
        print(f"No report yet: {error}")
    else:
        if outcome.mirrored:
            _attach_report(folder, tracking_uri)
    for note in outcome.notes:
        print(note)


def _attach_report(folder: Path, tracking_uri: str) -> None:
    """To the sweep's run in MLflow. That it cannot be had there changes nothing else."""
    from sweeps.ending import how_to_sync
    from sweeps.tracking import attach_report

    try:
        attach_report(folder, tracking_uri)
    except Exception as error:
        print(how_to_sync(folder, tracking_uri, f"{type(error).__name__}: {error}"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run_sweep.py", description=__doc__)
    parser.add_argument("space", type=Path, metavar="SPACE.yaml", help="the search space")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument(
        "--calibrate", action="store_true", help="time a few steps of each arm, print the plan and stop"
    )
    parser.add_argument("--resume", action="store_true", help="go on with a sweep that did not finish")
    parser.add_argument(
        "--extend",
        action="store_true",
        help="add the space's new seeds, levels or draws to a sweep, and run them",
    )
    parser.add_argument(
        "--reuse", action="store_true", help="take over the same trials of other sweeps under this storage"
    )
    parser.add_argument("--name", help="default: the space's own")
    parser.add_argument(
        "--storage", default="results", metavar="DIR", help="a folder, or a URL such as s3://bucket/sweeps"
    )
    parser.add_argument("--tracking-uri", default="sqlite:///mlflow.db", metavar="URI", help="of MLflow")
    parser.add_argument("--address", metavar="ADDR", help="a Ray cluster that runs already")
    parser.add_argument("--max-concurrent", type=int, metavar="N", help="trials at once, at most")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="a setting of the base, such as model.h_cycles=2; may be repeated",
    )
    parser.add_argument("--notify", metavar="URL", help="post a JSON summary there at the end")
    parser.add_argument("--quiet", action="store_true", help="only the last lines")
    return parser


if __name__ == "__main__":
    sys.exit(main())
