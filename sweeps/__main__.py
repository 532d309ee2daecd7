"""The command line: `python -m sweeps VERB`, or the console script `trm-sweeps VERB`.

A verb imports what it needs when it runs: `status` and `list` load neither Ray nor torch nor pandas.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.record.file_names import DEFAULT_STORAGE
from sweeps.record.mlflow_file import DEFAULT_STORE
from sweeps.record.secrets import without_secret
from sweeps.space.errors import SpecError
from sweeps.space.shipped import shipped_names

BAD_INPUT = 2
MODULE = "python -m sweeps"


@dataclass(frozen=True)
class Verb:
    """A verb: what it does in a few words, its function of the arguments and the program's name, which
    returns the exit status, and the options that it has besides `--storage`."""

    about: str
    run: Callable[[argparse.Namespace, str], int]
    options: tuple[str, ...] = ()
    takes_name: bool = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments and run the verb. Returns the exit status."""
    program = _program()
    parser = argparse.ArgumentParser(
        prog=program, description="Ablation sweeps of TRM and other trainers. VERB --help has the details."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB", dest="verb")
    add_run_arguments(verbs.add_parser("run", help="launch a sweep", description="Launch a sweep."))
    for name, verb in VERBS.items():
        each = verbs.add_parser(
            name, help=verb.about, description=f"{verb.about[0].upper()}{verb.about[1:]}."
        )
        _add_arguments(each, verb)
    if not (sys.argv[1:] if arguments is None else arguments):
        parser.print_help(sys.stderr)
        return BAD_INPUT
    options = parser.parse_args(arguments)
    verb_name = vars(options).pop("verb")
    if verb_name == "run":
        return run(options, program)
    return guarded(lambda: VERBS[verb_name].run(options, program), f"{program} {verb_name}")


def _program() -> str:
    """The command as it was typed."""
    typed = Path(sys.argv[0])
    return MODULE if typed.name == "__main__.py" else typed.name


def run(arguments: argparse.Namespace, program: str) -> int:
    """Launch a sweep. Returns the exit status; bad input is one message on standard error after `program`."""

    def launched() -> int:
        from sweeps.launch import launch
        from sweeps.options import LaunchOptions

        options = {**vars(arguments), "overrides": tuple(arguments.overrides)}
        return launch(LaunchOptions(**options)).status

    return guarded(launched, program)


def guarded(action: Callable[[], int], program: str) -> int:
    """The action's exit status. An error is one message on standard error, and no traceback."""
    try:
        return action()
    except SpecError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:  # before or after the trials; while they run, Signals handles it
        return 128 + signal.SIGINT
    except BrokenPipeError:  # as with `--dry-run | head`; without this Python prints an error at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:  # a full disk, a folder that cannot be written
        where = f"{error.filename}: " if error.filename else ""
        print(without_secret(f"{program}: {where}{error.strerror or error}"), file=sys.stderr)
        return BAD_INPUT


# The verbs


def _list(options: argparse.Namespace, program: str) -> int:
    from sweeps.sweep_status import SweepStatus, damaged_as_json, statuses

    rows = list(statuses(options.storage))
    if options.json:
        found = [
            row.as_json() if isinstance(row, SweepStatus) else damaged_as_json(name, row)
            for name, row in rows
        ]
        _print_json(found)
        return 0
    from rich.console import Console

    from sweeps.status_text import list_text, width_of

    console = Console()
    if rows:
        console.width = width_of(console)
        console.print(list_text(rows, console.width), highlight=False)
    else:
        print(f"{without_secret(options.storage)} has no sweeps.")
    return 0


def _status(options: argparse.Namespace, program: str) -> int:
    from sweeps.sweep_status import read_status

    status = read_status(options.name, options.storage)
    if options.json:
        _print_json(status.as_json())
        return 0
    from rich.console import Console

    from sweeps.status_text import status_text, width_of

    console = Console()
    console.width = width_of(console)
    console.print(status_text(status, console.width), highlight=False)
    return 0


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def _watch(options: argparse.Namespace, program: str) -> int:
    from rich.console import Console

    from sweeps.record.storage import Storage
    from sweeps.sweep_status import SweepReader, check_known
    from sweeps.watch import watch

    storage = Storage(options.storage)
    check_known(storage, options.name)
    try:
        status = watch(SweepReader(storage, options.name), Console())
    except KeyboardInterrupt:  # the sweep goes on
        return 0
    print(f"{status.name}: {status.state}")
    return 0


def _stop(options: argparse.Namespace, program: str) -> int:
    from sweeps import verbs

    return verbs.stop(options.name, options.storage, options.timeout, program)


def _retry(options: argparse.Namespace, program: str) -> int:
    from sweeps import verbs

    return verbs.retry(options.name, options.storage, program)


def _report(options: argparse.Namespace, program: str) -> int:
    from sweeps import verbs

    return verbs.report(options.name, options.storage)


def _sync(options: argparse.Namespace, program: str) -> int:
    from sweeps import verbs

    return verbs.sync(options.name, options.storage, options.tracking_uri)


def _best(options: argparse.Namespace, program: str) -> int:
    from sweeps import verbs

    return verbs.best(options.name, options.storage)


VERBS = {
    "list": Verb("list the sweeps of a storage", _list, ("--json",), takes_name=False),
    "status": Verb("print a sweep's state, its trials, its best arm and the time left", _status, ("--json",)),
    "watch": Verb("show a running sweep's live table until it ends", _watch),
    "stop": Verb(
        "end a running sweep so that --resume continues it, and wait for that", _stop, ("--timeout",)
    ),
    "retry": Verb("plan the failed trials of a sweep again", _retry),
    "report": Verb("write a sweep's report of what is recorded now, and print its path", _report),
    "sync": Verb("write a sweep's whole journal and its report to MLflow", _sync, ("--tracking-uri",)),
    "best": Verb("print the checkpoint folder of the best arm's best trial, on the last line", _best),
}


def _add_arguments(parser: argparse.ArgumentParser, verb: Verb) -> None:
    if verb.takes_name:
        parser.add_argument("name", metavar="NAME", help="the sweep's name")
    _add_storage(parser)
    if "--json" in verb.options:
        parser.add_argument("--json", action="store_true", help="print JSON")
    if "--timeout" in verb.options:
        parser.add_argument(
            "--timeout", type=float, default=120.0, metavar="SECONDS", help="how long to wait (default: 120)"
        )
    if "--tracking-uri" in verb.options:
        parser.add_argument(
            "--tracking-uri", metavar="URI", help="the MLflow store (default: the one that the sweep has)"
        )


def _add_storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--storage",
        default=DEFAULT_STORAGE,
        metavar="DIR",
        help="a folder, or a URL such as s3://bucket/sweeps",
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run`: the fields of LaunchOptions."""
    parser.add_argument(
        "space",
        type=Path,
        metavar="SPACE",
        help=f"the search space: a YAML file, or a name in search_spaces/: {', '.join(shipped_names())}",
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
    _add_storage(parser)
    parser.add_argument("--tracking-uri", default=DEFAULT_STORE, metavar="URI", help="the MLflow store")
    parser.add_argument("--address", metavar="ADDR", help="HOST:PORT of an existing Ray cluster")
    parser.add_argument("--max-concurrent", type=int, metavar="N", help="run at most N trials at once")
    parser.add_argument(
        "--grace",
        type=float,
        default=20.0,
        metavar="SECONDS",
        help="after a signal, wait this long for each running trial's next report (default: 20)",
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="change a key of the base, such as model.h_cycles=2; may be repeated",
    )
    parser.add_argument(
        "--notify",
        metavar="URL",
        help="post JSON to this URL at the end and at the first failed trial; env:NAME: to the URL in an "
        "environment variable, which keeps it out of the list of processes",
    )
    parser.add_argument("--quiet", action="store_true", help="print only the last lines")


if __name__ == "__main__":
    sys.exit(main())
