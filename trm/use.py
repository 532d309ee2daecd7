"""The commands that use a trained model: `python -m trm predict | evaluate | export | convert`."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from trm.checkpoint import CheckpointError, written_whole
from trm.data.base import DataError, Split
from trm.data.boards.csv_files import read_questions
from trm.data.boards.rules import Boards, Puzzles
from trm.data.boards.task import PuzzleTask
from trm.device import resolve_device
from trm.reference import read_reference, write_reference
from trm.reference_config import ALL_CONFIG
from trm.scores import overlap, scores, tables
from trm.settings.messages import UsageError
from trm.settings.yaml import YamlError
from trm.steps_shown import show_steps
from trm.trained import Trained, build, export, load

COMMANDS = ("predict", "evaluate", "export", "convert")


def main(argv: Sequence[str]) -> int:
    """Run a command. Exit status 0, or 2 for bad input (one message, nothing written)."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (UsageError, YamlError, DataError, CheckpointError) as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        where = error.filename or "the output"
        print(f"{where}: cannot be read or written ({error.strerror}): give another place", file=sys.stderr)
        return 2
    return 0


def predict(arguments: argparse.Namespace) -> None:
    """Solve puzzles; with answers in the file, say how many boards are right."""
    if arguments.out is not None:
        _check_new(arguments.out)
    trained, task = _loaded(arguments)
    puzzles, has_answers = read_questions(arguments.puzzles, task.rules)
    inputs = _tokens(puzzles.boards)
    tokens, confidence = trained.predict(inputs, arguments.steps)
    tokens = tokens.cpu()
    texts = [_text(task, row) for row in tokens]
    right = (tokens == _tokens(puzzles.solutions)).all(1) if has_answers else None
    if arguments.show:
        show_steps(trained, task, inputs[: arguments.show], arguments.steps, Console())
    if arguments.out is not None:
        _write(arguments.out, task, puzzles, texts, confidence, right)
        print(f"{arguments.out}: {len(texts):,} boards")  # not by rich, to which [x] in a path is markup
    elif not arguments.show:
        print("\n".join(texts))
    if right is not None:
        print(f"{int(right.sum()):,} of {len(right):,} boards are right")
    if right is not None and task.accepted_metric is not None:
        accepted = int(task.accepts(inputs, tokens.to(torch.uint8)).sum())
        print(f"{accepted:,} of {len(right):,} boards are right {task.accepted_as} ({task.accepted_metric})")


def evaluate(arguments: argparse.Namespace) -> None:
    """Measure a model on a file of puzzles with answers."""
    trained, task = _loaded(arguments)
    puzzles, has_answers = read_questions(arguments.data, task.rules)
    if not has_answers:
        raise DataError(f"{arguments.data}:1: no column answer: without answers there is only `predict`")
    columns = (_tokens(puzzles.boards), _tokens(puzzles.solutions), torch.from_numpy(puzzles.ratings))
    split = Split(*(column[: arguments.rows] for column in columns))
    found = scores(trained, split)
    found["training_overlap"], warning = overlap(trained, task, puzzles, len(split.inputs))
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        console = Console()
        for table in tables(found):
            console.print(table)
    print(warning, file=sys.stderr)


def export_weights(arguments: argparse.Namespace) -> None:
    """Write a checkpoint's weights as safetensors, with the run's config beside them."""
    trained = load(arguments.checkpoint, arguments.weights)
    export(trained, arguments.out)
    step = "" if trained.step is None else f" of step {trained.step:,}"
    print(f"{arguments.out}: {trained.weights} weights{step}")


def convert(arguments: argparse.Namespace) -> None:
    """Read a checkpoint of the reference implementation (TRM or HRM); or write one, with --to-reference."""
    if arguments.to_reference:
        for option in ("config", "size"):
            if getattr(arguments, option) is not None:
                raise UsageError(f"--{option} is for reading the reference's files: leave out --to-reference")
        trained = load(arguments.source, arguments.weights or "chosen")
        write_reference(arguments.out, trained.config, dict(trained.model.state_dict()), trained.origin)
        print(f"{arguments.out}, and {ALL_CONFIG} beside it: {trained.weights} weights")
        return
    if arguments.weights is not None:
        raise UsageError("--weights is for --to-reference: the reference's file has one set of weights")
    trained = from_reference(arguments.source, arguments.config, arguments.size)
    export(trained, arguments.out)
    parameters, data = sum(each.numel() for each in trained.model.parameters()), trained.config.data
    print(f"{arguments.out}: {parameters:,} parameters, {data.task} of {data.shape.seq_len} cells")
    if kept := trained.origin["not_carried"]:
        print(f"{ALL_CONFIG}'s keys that are kept, but not in the config: {', '.join(kept)}")


def from_reference(path: Path, config_path: Path | None = None, size: int | None = None) -> Trained:
    """The model in a checkpoint of the reference, as `read_reference` reads it. Raises CheckpointError."""
    config, weights, origin = read_reference(path, config_path, size)
    model = build(config, weights, path, torch.device("cpu"))
    return Trained(model, config, "converted", knows_data=False, knows_horizon=False, origin=origin)


def _loaded(arguments: argparse.Namespace) -> tuple[Trained, PuzzleTask]:
    trained = load(arguments.checkpoint, arguments.weights, resolve_device(arguments.device))
    task = trained.config.data
    if not isinstance(task, PuzzleTask):
        raise UsageError(f"{arguments.checkpoint}: is of the task {task.task}, which has no files of puzzles")
    if arguments.batch_size is not None:
        settings = trained.config.eval.model_copy(update={"batch_size": arguments.batch_size})
        trained = replace(trained, config=trained.config.model_copy(update={"eval": settings}))
    return trained, task


def _tokens(boards: Boards) -> Tensor:
    return torch.from_numpy(boards + np.uint8(1))  # token 0 is padding


def _text(task: PuzzleTask, tokens: Tensor) -> str:
    """A predicted board on one line; a cell for which the model gave the padding is `?`."""
    alphabet = f"?{task.rules.alphabet}"
    return "".join(alphabet[token] for token in tokens.tolist())


def _check_new(out: Path) -> None:
    if out.exists():
        raise UsageError(f"--out {out}: already exists and is not overwritten: give a new file")
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}: make it, or give another file")
    if not os.access(out.parent, os.W_OK):
        raise UsageError(f"--out {out}: the folder {out.parent} cannot be written to: give another file")


def _write(
    out: Path,
    task: PuzzleTask,
    puzzles: Puzzles,
    texts: list[str],
    confidence: Tensor | None,
    right: Tensor | None,
) -> None:
    sure = [""] * len(texts) if confidence is None else [f"{each:.4f}" for each in confidence.tolist()]
    try:
        with written_whole(out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["question", "prediction", "confidence", *["right"] * (right is not None)])
            for row, text in enumerate(texts):
                more = [] if right is None else [int(right[row])]
                writer.writerow([task.rules.text(puzzles.boards[row]), text, sure[row], *more])
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written ({error.strerror}): give another file") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trm", description="Use a trained model.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    weights = argparse.ArgumentParser(add_help=False)
    weights.add_argument(
        "--weights", choices=["chosen", "ema", "raw"], default="chosen",
        help="of a trial's checkpoint: the best on val (default), the moving average, or the optimizer's",
    )  # fmt: skip
    model = argparse.ArgumentParser(add_help=False, parents=[weights])
    model.add_argument("checkpoint", type=Path, help="a trial's checkpoint folder, or an exported one")
    model.add_argument("--device", default="auto", help="auto (default: a GPU, if there is one), cpu, cuda:0")
    model.add_argument("--batch-size", type=_positive, help="rows at a time (default: the run's)")

    def add(name: str, run: Callable[..., None], parent: argparse.ArgumentParser) -> argparse.ArgumentParser:
        about = run.__doc__
        command = commands.add_parser(name, help=about, description=about, parents=[parent])
        command.set_defaults(run=run)
        return command

    command = add("predict", predict, model)
    command.add_argument("puzzles", type=Path, help="CSV with a column question; answer may be missing")
    command.add_argument("--steps", type=_positive, help="supervision steps (default: model.halt_max_steps)")
    command.add_argument("--show", type=_positive, metavar="K", help="print the first K boards step by step")
    command.add_argument("--out", type=Path, help="write the boards to this CSV instead of printing them")

    command = add("evaluate", evaluate, model)
    command.add_argument("--data", type=Path, required=True, help="CSV with the columns question and answer")
    command.add_argument("--rows", type=_positive, metavar="N", help="only the first N rows (default: all)")
    command.add_argument("--json", action="store_true", help="print one JSON object")

    command = add("export", export_weights, weights)
    command.add_argument("checkpoint", type=Path, help="a trial's checkpoint folder")
    command.add_argument("out", type=Path, help="a folder that does not exist yet")

    command = add("convert", convert, argparse.ArgumentParser(add_help=False))
    command.add_argument("source", type=Path, help="the file step_N; with --to-reference a checkpoint folder")
    command.add_argument("out", type=Path, help="a new folder; with --to-reference a new file")
    command.add_argument("--config", type=Path, help=f"the run's {ALL_CONFIG} (default: beside the file)")
    command.add_argument(
        "--size", type=_positive, metavar="N", help="cells per side of mazes, if nothing else says it"
    )
    command.add_argument("--to-reference", action="store_true", help="the other way round")
    command.add_argument(
        "--weights", choices=["chosen", "ema", "raw"], help="with --to-reference: as for export"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1 on")
    return int(text)
