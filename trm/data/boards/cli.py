"""python -m trm.data.TASK: prepare, inspect, show and check the data of one task."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from pydantic import ValidationError

from trm.data.base import DataError
from trm.data.boards.csv_files import read_csv, write_csv
from trm.data.boards.npy_files import npy_splits, read_npy, write_npy
from trm.data.boards.rules import Puzzles
from trm.data.boards.splits import CHECKED, load_splits
from trm.data.boards.task import PuzzleTask
from trm.settings.messages import explain

_HELP = {
    "source": "where the puzzles come from",
    "size": "cells per side",
    "train": "csv: training file",
    "val": "csv: val file (default: cut from train)",
    "test": "csv: test file",
    "path": "npy: folder with train/, test/ and optionally val/",
    "repo": "hub: data set, such as OWNER/NAME",
    "num_train": "training puzzles (default: all)",
    "num_val": "val puzzles, cut from train by symmetry class",
    "num_test": "test puzzles (default: all)",
    "min_rating": "only puzzles at least this difficult",
    "num_aug": "prepare: variants of each training puzzle to write (default: 0)",
    "seed": "seed of generation and draws (default: 0)",
}
_TEXTS = ("source", "train", "val", "test", "path", "repo")  # the others are whole numbers


def main(model: type[PuzzleTask], argv: Sequence[str] | None = None) -> int:
    """Run a command for one task. Exit status: 0, or 2 for bad input (one message on standard error)."""
    args = _parser(model).parse_args(argv)
    try:
        args.run(args)
    except ValidationError as error:
        return _refuse(explain(error, model, "options"))
    except DataError as error:
        return _refuse(str(error))
    except OSError as error:  # from writing; errors of reading are DataErrors
        return _refuse(
            f"{error.filename or '--out'}: cannot be written: {error.strerror}: choose another --out"
        )
    return 0


def prepare(args: argparse.Namespace) -> None:
    """Write the splits as CSV files, or as a folder in the reference implementation's format."""
    out: Path = args.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"--out {out}: already exists and is not overwritten: give a new folder")
    config = _config(args)
    splits = load_splits(config)
    train, val, test = splits.train, splits.val, splits.test
    if config.num_aug:
        train = _with_variants(train, config)
    out.mkdir(parents=True, exist_ok=True)
    if args.format == "csv":
        for name, puzzles in (("train", train), ("val", val), ("test", test)):
            write_csv(out / f"{name}.csv", puzzles, config.rules, config.source)
            print(f"{out / name}.csv: {len(puzzles)} rows")
        return
    # The reference implementation uses train/ and test/ only, and ignores val/.
    for name, puzzles in (("train", train), ("val", val), ("test", test)):
        write_npy(out, name, puzzles, config.rules)
        print(f"{out / name}: {len(puzzles)} rows in {len(puzzles.groups) - 1} groups")


def inspect(args: argparse.Namespace) -> None:
    """Print counts, ratings, symmetry classes and their overlaps between splits, and the data's hash."""
    config = _config(args)
    rules = config.rules
    splits = load_splits(config)
    classes = {}
    for name, puzzles in splits.parts.items():
        keys = np.unique(rules.class_keys(puzzles.boards, puzzles.solutions))
        classes[name] = keys
        groups = len(puzzles.groups) - 1
        print(
            f"{name:5}  {len(puzzles):>8,} rows  {groups:>8,} groups  {len(keys):>8,} classes  "
            f"{rules.summary(puzzles)}"
        )
        print(f"       rating  {_histogram(puzzles.ratings)}")
        is_sample = rules.samples_answers and groups > CHECKED
        checked = f"{CHECKED:,} of {groups:,}, drawn at random" if is_sample else "all"
        print(f"       checked, {rules.claim}: {checked}")
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = len(np.intersect1d(classes[one], classes[other]))
        print(f"classes in both {one} and {other}: {shared:,}")
    if splits.left_out:
        print(splits.left_out)
    print(f"hash   {config.load().hash}")


def show(args: argparse.Namespace) -> None:
    """Print one puzzle and its answer."""
    config = _config(args)
    puzzles: Puzzles = getattr(load_splits(config), args.split)
    if not 0 <= args.index < len(puzzles):
        raise DataError(
            f"--index {args.index}: {args.split} has {len(puzzles)} puzzles: give 0 to {len(puzzles) - 1}"
        )
    row = slice(args.index, args.index + 1)
    one = Puzzles.single(puzzles.boards[row], puzzles.solutions[row], puzzles.ratings[row])
    rating = one.ratings[0] if one.ratings[0] >= 0 else "unknown"
    print(f"{args.split} {args.index}: {config.rules.summary(one)}, rating {rating}")
    drawn = [config.rules.picture(board[0]) for board in (one.boards, one.solutions)]
    for left, right in zip(*(text.splitlines() for text in drawn), strict=True):
        print(f"{left}     {right}")


def check(args: argparse.Namespace) -> None:
    """Check every puzzle of some files: all rules, and that each puzzle has one answer."""
    rules = args.model.model_validate({"size": args.size}).rules
    for path in args.paths:
        readers = {path: partial(read_csv, path, rules)}
        if path.is_dir():
            readers = {path / split: partial(read_npy, path, split, rules) for split in npy_splits(path)}
        for name, read in readers.items():
            puzzles = read()
            rules.check_answers(puzzles)
            print(f"{name}: {len(puzzles):,} puzzles, all valid, {rules.claim}")


def _with_variants(puzzles: Puzzles, config: PuzzleTask) -> Puzzles:
    """Groups of each puzzle and `num_aug` random symmetries of it, as in the reference's dataset builder."""
    copies = (config.num_aug or 0) + 1
    originals = puzzles.take_groups(np.arange(len(puzzles.groups) - 1), first_only=True)
    boards, solutions = (np.repeat(x, copies, axis=0) for x in (originals.boards, originals.solutions))
    generator = torch.Generator().manual_seed(config.seed)
    inputs, labels = (torch.from_numpy(symbols + np.uint8(1)) for symbols in (boards, solutions))
    mapped = [x.numpy() - np.uint8(1) for x in config.augment(None)(inputs, labels, generator)]
    original = (np.arange(len(boards)) % copies == 0)[:, None]
    return Puzzles(
        np.where(original, boards, mapped[0]),
        np.where(original, solutions, mapped[1]),
        np.repeat(originals.ratings, copies),
        np.arange(len(originals) + 1) * copies,
    )


def _histogram(ratings: np.ndarray) -> str:
    if ratings.max() < 0:
        return "unknown"
    edges = [0, 1, 2, 5, 10, 20, 50, 100, 1000, np.iinfo(np.int32).max]
    counts, _ = np.histogram(ratings, edges)
    names = ["0", "1", "2-4", "5-9", "10-19", "20-49", "50-99", "100-999", "1000+"]
    shown = [f"{name}: {count:,}" for name, count in zip(names, counts, strict=True) if count]
    return "  ".join([*shown, f"mean {ratings.mean():.1f}"])


def _config(args: argparse.Namespace) -> PuzzleTask:
    options = {key: getattr(args, key) for key in _HELP}
    model: type[PuzzleTask] = args.model
    return model.model_validate({key: value for key, value in options.items() if value is not None})


def _parser(model: type[PuzzleTask]) -> argparse.ArgumentParser:
    fields = model.model_fields
    task = fields["task"].default
    parser = argparse.ArgumentParser(
        prog=f"python -m trm.data.{task}", description=f"Data of the task {task}."
    )
    parser.set_defaults(model=model)
    data = argparse.ArgumentParser(add_help=False)
    for key, text in _HELP.items():
        kind = str if key in _TEXTS else int
        if key in ("source", "size"):
            allowed = [str(choice) for choice in get_args(fields[key].annotation)]
            text += f"{': ' * bool(allowed)}{', '.join(allowed)} (default: {fields[key].default})"
        data.add_argument(f"--{key.replace('_', '-')}", help=text, metavar=key.upper(), type=kind)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for run, parents in ((prepare, [data]), (inspect, [data]), (show, [data]), (check, [])):
        about = run.__doc__
        command = commands.add_parser(run.__name__, help=about, description=about, parents=parents)
        command.set_defaults(run=run)
        if run is prepare:
            command.add_argument("--out", type=Path, required=True, help="a new folder")
            command.add_argument("--format", choices=["npy", "csv"], default="npy", help="default: npy")
        elif run is show:
            command.add_argument("--split", choices=["train", "val", "test"], default="train")
            command.add_argument("--index", type=int, default=0, help="index in the split (default: 0)")
        elif run is check:
            command.add_argument("paths", type=Path, nargs="+", help="CSV files, or npy folders")
            command.add_argument("--size", type=int, default=fields["size"].default, help=_HELP["size"])
    return parser


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return 2
