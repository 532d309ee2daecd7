"""python -m analysis COMMAND: what recorded results say.

report DIR        write a sweep's report.html and report/ anew (also python -m analysis.report DIR)
verdicts DIR      print a sweep's verdicts.json
across DIR DIR... the same arms over several sweeps, each on a task of its own
published DIR CSV the arms beside figures that were published for them
diff TRIAL TRIAL  how the configs of two trials differ (TRIAL: DIR/ID, such as results/smoke/mlp-d0-s1)
notebook NAME DIR run a notebook of analysis/notebooks on a sweep, and write it to DIR/NAME.ipynb
"""

from __future__ import annotations

import argparse
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from analysis.sweep import AnalysisError, load_sweep


def _one_folder(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="results, such as results/smoke")


def _folders(parser: ArgumentParser) -> None:
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="results, such as results/smoke")


def _folder_and_figures(parser: ArgumentParser) -> None:
    _one_folder(parser)
    parser.add_argument(
        "csv", type=Path, metavar="CSV", help="columns arm and published, in the objective's unit"
    )


def _two_trials(parser: ArgumentParser) -> None:
    first = "DIR/ID, such as results/smoke/mlp-d0-s1; the beginning of the id will do if no other begins so"
    parser.add_argument("one", metavar="TRIAL", help=first)
    parser.add_argument("other", metavar="TRIAL", help="the same; or an ID alone, of the same sweep")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _notebook_and_folder(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="one of analysis/notebooks, such as mixers")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="results, such as results/smoke")
    where.add_argument(
        "--refresh", action="store_true", help="write the notebook itself anew, on the sweep that it names"
    )


@dataclass(frozen=True)
class Command:
    """`run` gives what is printed for the arguments, which `add_arguments` defines."""

    about: str
    run: Callable[[Namespace], str]
    add_arguments: Callable[[ArgumentParser], None] = _one_folder


def _report(given: Namespace) -> str:
    return str(import_module("analysis.report.build").write_report(given.folder))


def _verdicts(given: Namespace) -> str:
    module = import_module("analysis.report.verdicts")
    return str(module.to_json(module.verdicts(load_sweep(given.folder))).rstrip())


def _across(given: Namespace) -> str:
    return str(import_module("analysis.report.across").across_text(given.folders))


def _published(given: Namespace) -> str:
    return str(import_module("analysis.report.published").published_text(given.folder, given.csv))


def _diff(given: Namespace) -> str:
    return str(import_module("analysis.configs").diff_text(given.one, given.other, given.json))


def _notebook(given: Namespace) -> str:
    return str(import_module("analysis.notebook").write_notebook(given.name, given.folder))


COMMANDS = {
    "report": Command("write a sweep's report.html and report/ anew", _report),
    "verdicts": Command("print a sweep's verdicts.json", _verdicts),
    "across": Command("the same arms over several sweeps, each on a task of its own", _across, _folders),
    "published": Command(
        "the arms beside figures that were published for them", _published, _folder_and_figures
    ),
    "diff": Command("how the configs of two trials differ", _diff, _two_trials),
    "notebook": Command("run a notebook on a sweep", _notebook, _notebook_and_folder),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 with a line on stderr if the results cannot be analysed."""
    parser = argparse.ArgumentParser(prog="python -m analysis", description="What recorded results say.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.about, description=command.about))
    given = parser.parse_args(arguments)
    try:
        print(COMMANDS[given.command].run(given))
    except (AnalysisError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
