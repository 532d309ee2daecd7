"""python -m analysis COMMAND: what recorded results say.

report DIR        write a sweep's report.html and report/ anew (also python -m analysis.report DIR)
verdicts DIR      print a sweep's verdicts.json
across DIR DIR... the same arms over several sweeps, each on a task of its own
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from analysis.sweep import AnalysisError, load_sweep


@dataclass(frozen=True)
class Command:
    """`run` takes the folders and gives what is printed; `several`: it takes more than one folder."""

    about: str
    run: Callable[[list[Path]], str]
    several: bool = False


def _report(folders: list[Path]) -> str:
    return str(import_module("analysis.report.build").write_report(folders[0]))


def _verdicts(folders: list[Path]) -> str:
    module = import_module("analysis.report.verdicts")
    return str(module.to_json(module.verdicts(load_sweep(folders[0]))).rstrip())


def _across(folders: list[Path]) -> str:
    return str(import_module("analysis.report.across").across_text(folders))


COMMANDS = {
    "report": Command("write a sweep's report.html and report/ anew", _report),
    "verdicts": Command("print a sweep's verdicts.json", _verdicts),
    "across": Command("the same arms over several sweeps, each on a task of its own", _across, several=True),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 with a line on stderr if the results cannot be analysed."""
    parser = argparse.ArgumentParser(prog="python -m analysis", description="What recorded results say.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        each = commands.add_parser(name, help=command.about, description=command.about)
        count = "+" if command.several else 1
        each.add_argument(
            "folders", type=Path, nargs=count, metavar="DIR", help="results, such as results/smoke"
        )
    given = parser.parse_args(arguments)
    try:
        print(COMMANDS[given.command].run(given.folders))
    except (AnalysisError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
