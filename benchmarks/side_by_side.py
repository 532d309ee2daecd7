"""Trials that train at once: `python -m benchmarks.side_by_side [--at-once 2] [--seconds 20]`.

Each trial is a process of its own, as a sweep's are, and trains with as many threads as a sweep gives it (its
`resources.cpu`, here 1); beside it the same where each takes all cores, as PyTorch does by itself. One after
the other, in three rounds. Printed as JSON: samples a second in all, and times those of one trial alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.training_step import RECIPE, config_of, trainer_of
from sweeps.execute.worker import set_threads

ROOT = Path(__file__).resolve().parent.parent


def train(kind: str, threads: int | None, seconds: float) -> None:
    """One trial: waits for a line on standard input, trains so long and prints its samples a second."""
    if threads is not None:
        set_threads(threads)
    trainer = trainer_of(config_of(RECIPE, kind, []), "cpu", "fast")
    for _ in range(3):
        trainer.train_step(trainer.step + 1)
    print("ready", flush=True)
    sys.stdin.readline()
    begin, first = time.perf_counter(), trainer.step
    while (passed := time.perf_counter() - begin) < seconds:
        trainer.train_step(trainer.step + 1)
    print((trainer.step - first) * trainer.config.train.batch_size / passed)


def samples_per_s(kind: str, at_once: int, threads: int | None, seconds: float) -> float:
    """Of so many trials at once, in all."""
    command = [sys.executable, "-m", "benchmarks.side_by_side", "--train", kind, "--seconds", str(seconds)]
    command += [] if threads is None else ["--threads", str(threads)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    trials = [subprocess.Popen(command, cwd=ROOT, text=True, **pipes) for _ in range(at_once)]
    for trial in trials:
        assert trial.stdout is not None and trial.stdout.readline() == "ready\n"
    for trial in trials:
        assert trial.stdin is not None
        trial.stdin.write("\n")
        trial.stdin.flush()
    return sum(float(trial.communicate()[0]) for trial in trials)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--kinds", nargs="+", default=["attention", "mamba"])
    parser.add_argument("--train", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train:
        train(given.train, given.threads, given.seconds)
        return
    ways = {"alone": (1, 1), "side by side": (given.at_once, 1), "all cores each": (given.at_once, None)}
    found = {}
    for kind in given.kinds:
        rounds = [
            {name: samples_per_s(kind, *way, given.seconds) for name, way in ways.items()} for _ in range(3)
        ]
        median = {name: statistics.median(each[name] for each in rounds) for name in ways}
        found[kind] = {name: round(value, 1) for name, value in median.items()}
        for name in ("side by side", "all cores each"):
            found[kind][f"{name}, times alone"] = round(median[name] / median["alone"], 2)
    print(json.dumps({"at once": given.at_once, "torch": str(torch.__version__), **found}, indent=2))


if __name__ == "__main__":
    main()
