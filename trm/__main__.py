"""Train one configuration: `python -m trm --config search_spaces/base/smoke_4x4.yaml --set optim.lr=3e-4`.

With a command as its first word, such as `predict`, it uses a trained model instead: `trm.use`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from trm.checkpoint import CheckpointError, Save
from trm.config import TrialConfig
from trm.data.base import DataError
from trm.device import resolve_device
from trm.settings.messages import UsageError, explain
from trm.settings.overrides import OverrideError, absolute_paths, flatten, override, path_and_value
from trm.settings.yaml import YamlError, load_yaml
from trm.trainer import Trainer
from trm.trial import Diverged, LocalTrial
from trm.use import COMMANDS
from trm.use import main as use

RUN_FILE = "run.json"


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trm",
        description="Train one configuration of TRM, with checkpoints and a final table.",
        epilog=f"A trained model is used by: python -m trm {' | '.join(COMMANDS)} (-h says more).",
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file with one trial's config")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", dest="overrides",
        help="set one key, such as model.mixer.kind=mlp; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of initialisation, batches and exploration (default: 0)"
    )
    parser.add_argument(
        "--device", default="auto", help="auto (default: a GPU if there is one), cpu, cuda:0, ..."
    )
    parser.add_argument(
        "--threads", type=int, default=1,
        help="threads of torch (default: 1; more speed up wide networks, and may change the last digits)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, help="folder for checkpoints and metrics (default: runs/CONFIG)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="resume from the last checkpoint in the output folder"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 done, 1 diverged, 2 bad input (one message, nothing written), 130 interrupted."""
    given = sys.argv[1:] if argv is None else argv
    if given and given[0] in COMMANDS:
        return use(given)
    arguments = parse_arguments(given)
    console = Console()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=console)])
    output = arguments.output or Path("runs") / arguments.config.stem
    try:
        return run(arguments, output, console)
    except (UsageError, YamlError, DataError, CheckpointError) as error:
        print(error, file=sys.stderr)
        return 2
    except Diverged as error:
        print(f"{error}: the reports before it are in {output / 'metrics.jsonl'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"interrupted: the same command with --resume continues from {output / 'last'}", file=sys.stderr
        )
        return 130


def run(arguments: argparse.Namespace, output: Path, console: Console) -> int:
    """Check all input, then write and train; the exit status. Raises the errors that `main` prints."""
    config = load_config(arguments.config, arguments.overrides)
    if not 0 <= arguments.seed < 2**63:
        raise UsageError(f"--seed {arguments.seed}: must be from 0 to 2^63 - 1")
    if arguments.threads < 1:
        raise UsageError(f"--threads {arguments.threads}: must be 1 or more")
    torch.set_num_threads(arguments.threads)
    device = resolve_device(arguments.device)
    this_run = {"seed": arguments.seed, "config": config.model_dump(mode="json")}
    _check_output(output, arguments.resume, this_run)
    config.data.check()
    try:
        config.model.check_device(device)
    except ValueError as error:
        raise UsageError(str(error)) from error

    try:
        local = LocalTrial(output, arguments.seed, device, arguments.resume)
    except OSError as error:
        raise UsageError(
            f"--output {output}: cannot be written ({error.strerror}): give another folder"
        ) from error
    if local.checkpoint and not local.history:
        raise UsageError(
            f"{local.metrics_file}: lacks the reports up to the checkpoint in {local.checkpoint}: restore "
            f"it, or start again in another folder"
        )
    (output / RUN_FILE).write_text(json.dumps(this_run, indent=2) + "\n")
    if local.history and local.history[-1]["step"] == config.train.max_steps:
        console.print(f"{output}: this run is already finished", soft_wrap=True, markup=False)
    else:
        _train(config, local, console)
    console.print(summary_table(local.history[-1]))
    console.print(f"checkpoints and metrics: {output}", soft_wrap=True, markup=False)
    return 0


def load_config(path: Path, overrides: list[str]) -> TrialConfig:
    """The config in a YAML file, changed by `path=value` overrides. Raises UsageError, YamlError.

    Relative file names in the file are relative to its folder, those in overrides to the current folder.
    """
    tree = load_yaml(path)
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: must be a mapping of keys (given {tree!r})")
    source = f"{path} with --set {' '.join(overrides)}" if overrides else str(path)
    try:
        values = [path_and_value(text, "model.mixer.kind=mlp") for text in overrides]
        tree = override(absolute_paths(tree, TrialConfig, path.parent), values, TrialConfig)
        return TrialConfig.model_validate(absolute_paths(tree, TrialConfig, Path.cwd()))
    except OverrideError as error:
        raise UsageError(f"--set {error}") from error
    except ValidationError as error:
        raise UsageError(explain(error, TrialConfig, source)) from error


def _check_output(output: Path, resume: bool, this_run: dict[str, Any]) -> None:
    if not resume:
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise UsageError(
                f"--output {output}: already exists: continue with --resume, or give another folder"
            )
        return
    if not (output / RUN_FILE).exists():
        raise UsageError(
            f"--output {output}: contains no run to resume: check the folder, or leave --resume out"
        )
    try:
        stored, current = flatten(json.loads((output / RUN_FILE).read_text())), flatten(this_run)
    except (ValueError, AttributeError) as error:
        raise UsageError(
            f"{output / RUN_FILE}: is damaged ({error}): restore it, or start again in another folder"
        ) from error
    changed = [
        f"{key.removeprefix('config.')} was {stored.get(key)!r} and is now {current.get(key)!r}"
        for key in sorted(stored.keys() | current.keys())
        if stored.get(key) != current.get(key)
    ]
    if changed:
        raise UsageError(
            f"--output {output}: contains another run ({'; '.join(changed)}): "
            f"resume it with its own settings, or give another folder"
        )


class _ShownTrial:
    """A LocalTrial with a progress bar that shows the metrics of the last report."""

    saves_in_place = True

    def __init__(self, local: LocalTrial, progress: Progress, max_steps: int) -> None:
        self.local, self.progress = local, progress
        self.seed, self.device, self.checkpoint = local.seed, local.device, local.checkpoint
        self.bar = progress.add_task("", total=max_steps, figures="")

    def on_step(self, step: int) -> None:
        self.progress.update(self.bar, completed=step)

    def report(self, metrics: dict[str, float], checkpoint: str | Path | Save | None = None) -> None:
        shown = {"loss": "train/loss", "val cells": "val/cell_accuracy", "val exact": "val/exact_accuracy"}
        figures = "  ".join(f"{name} {metrics[key]:.3f}" for name, key in shown.items() if key in metrics)
        self.progress.update(self.bar, figures=figures)
        if not self.progress.console.is_terminal:  # in a log file: one line per report instead of a bar
            self.progress.console.print(f"step {metrics['step']}  {figures}")
        self.local.report(metrics, checkpoint)


def _train(config: TrialConfig, local: LocalTrial, console: Console) -> None:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    figures = TextColumn("{task.fields[figures]}")
    with Progress(TextColumn("step"), *columns, figures, console=console) as progress:
        trial = _ShownTrial(local, progress, config.train.max_steps)
        trainer = Trainer(config, trial)
        try:
            trainer.run(on_step=trial.on_step)
        finally:
            trainer.close()


def summary_table(metrics: dict[str, float]) -> Table:
    """Accuracies on val and test (EMA weights), and the 95% interval of the exact accuracy."""
    table = Table("split", "cell accuracy", "exact accuracy", "95% interval", "halting head right")
    for split in ("val", "test"):
        if f"{split}/exact_accuracy" in metrics:
            low, high = metrics[f"{split}/exact_accuracy_low"], metrics[f"{split}/exact_accuracy_high"]
            names = (f"{split}/cell_accuracy", f"{split}/exact_accuracy", f"{split}/q_halt_accuracy")
            cell, exact, halting = (f"{metrics[name]:.4f}" for name in names)
            table.add_row(split, cell, exact, f"{low:.4f} to {high:.4f}", halting)
    return table


if __name__ == "__main__":
    sys.exit(main())
