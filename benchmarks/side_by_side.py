"""Trials that train at once: `python -m benchmarks.side_by_side [--at-once 2] [--seconds 20]`.

Each trial is a process of its own, as a sweep's are, and trains with as many threads as a sweep gives it (its
`resources.cpu`, here 1); beside it the same where each takes all cores, as PyTorch does by itself. One after
the other, in three rounds. Printed as JSON: samples a second in all, and times those of one trial alone.
"""

from __future__ import annotations

import argparse
import json
import statistics

import torch

from benchmarks.at_once import samples_per_s, train
from benchmarks.training_step import RECIPE, config_of, seconds_a_step, trainer_of
from sweeps.execute.worker import set_threads


def train_one(kind: str, threads: int | None, seconds: float) -> None:
    if threads is not None:
        set_threads(threads)
    trainer = trainer_of(config_of(RECIPE, kind, []), "cpu", "fast")
    seconds_a_step(trainer, 3)
    train(trainer, seconds)


def measure(kind: str, number: int, threads: int | None, seconds: float) -> float:
    """Samples a second of so many trials at once, in all."""
    command = ["benchmarks.side_by_side", "--train", kind, "--seconds", str(seconds)]
    command += [] if threads is None else ["--threads", str(threads)]
    return samples_per_s(command, number, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--kinds", nargs="+", default=["attention", "mamba"])
    parser.add_argument("--train", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train:
        train_one(given.train, given.threads, given.seconds)
        return
    ways = {"alone": (1, 1), "side by side": (given.at_once, 1), "all cores each": (given.at_once, None)}
    found = {}
    for kind in given.kinds:
        rounds = [{name: measure(kind, *way, given.seconds) for name, way in ways.items()} for _ in range(3)]
        median = {name: statistics.median(each[name] for each in rounds) for name in ways}
        found[kind] = {name: round(value, 1) for name, value in median.items()}
        for name in ("side by side", "all cores each"):
            found[kind][f"{name}, times alone"] = round(median[name] / median["alone"], 2)
    print(json.dumps({"at once": given.at_once, "torch": str(torch.__version__), **found}, indent=2))


if __name__ == "__main__":
    main()
