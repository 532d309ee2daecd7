"""Whole trials of this checkout beside those of another commit: `python -m benchmarks.beside_commit 5bad312`.

The same recipe with the same mixer, seed and thread, in turn, each in a process of its own with an empty
cache, so that what a process starts and compiles is in its time. Printed as JSON: seconds of the command, the
share of the trial's own time that is not training (evaluation, checkpoints), and times of this checkout over
those of the other commit, by the medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.training_step import SETTINGS

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("attention", "mlp", "mamba", "mamba2")


class Run(NamedTuple):
    seconds: float  # of the command
    not_training: float  # share of the trial's own time
    solved: float  # val/exact_accuracy at the end


def trial(checkout: Path, recipe: str, kind: str) -> Run:
    settings = {"kind": kind} | SETTINGS.get(kind, {})
    overrides = [f"--set=model.mixer.{key}={value}" for key, value in settings.items()]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "trm", "--config", f"search_spaces/base/{recipe}.yaml", *overrides]
        places = {"XDG_CACHE_HOME": f"{folder}/cache", "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor"}
        begin = time.monotonic()
        subprocess.run(
            [*command, "--device=cpu", f"--output={folder}/run"],
            cwd=checkout,
            env=os.environ | places | {"PYTHONPATH": str(checkout)},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.monotonic() - begin
        rows = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
    ends = [0, *(row["samples"] for row in rows)]
    trained_s = sum(
        (end - start) / row["samples_per_s"] for (start, end), row in zip(pairwise(ends), rows, strict=True)
    )
    return Run(seconds, 1 - trained_s / rows[-1]["wall_s"], rows[-1]["val/exact_accuracy"])


def median(runs: list[Run]) -> dict[str, float]:
    return {name: round(statistics.median(getattr(run, name) for run in runs), 3) for name in Run._fields}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("--recipes", nargs="+", default=["smoke_4x4", "mini_6x6"])
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder, "other")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(other), given.commit], check=True)
        try:
            for recipe in given.recipes:
                for kind in given.kinds:
                    pairs = [
                        (trial(other, recipe, kind), trial(ROOT, recipe, kind)) for _ in range(given.rounds)
                    ]
                    then, now = (median(list(runs)) for runs in zip(*pairs, strict=True))
                    ratio = round(now["seconds"] / then["seconds"], 3)
                    found[f"{recipe}, {kind}"] = {given.commit: then, "now": now, "time": ratio}
                    print(recipe, kind, ratio, file=sys.stderr)
        finally:
            subprocess.run([*git, "remove", "--force", str(other)], check=True)
    print(json.dumps({"rounds": given.rounds, "torch": str(torch.__version__), **found}, indent=2))


if __name__ == "__main__":
    main()
