"""What a checkpoint of the published recipe costs: `python -m benchmarks.checkpoints [--folder DIR]`.

The state of search_spaces/base/trm_sudoku.yaml, in bfloat16 as on a GPU: 289 MB, 152 of them the carry of its
768 rows. The values are random, and nothing is trained. Each round keeps one checkpoint in either way:

    copied   as before: one file is written and synced in a temporary folder, which the store copies
    renamed  two files are written where the store keeps them, which renames their folder

Seconds are medians of a whole report: writing, checksums and fsync. Bytes are those that it sends to the disk
(Linux's write_bytes), and those that are kept of a trial whose best checkpoint is not the last. Printed as
JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.evaluation import BASE, GENERATED
from sweeps.record.checkpoints import CheckpointStore
from trm.__main__ import load_config
from trm.checkpoint import FILE, FORMAT, save_checkpoint
from trm.model import build_model

State = dict[str, Any]


def published_state() -> tuple[State, State]:
    """Weights, and what only resuming needs, in the sizes of the published recipe."""
    config = load_config(BASE / "trm_sudoku.yaml", [GENERATED])
    model = build_model(config, 0, "cpu")
    model.forward_dtype = torch.bfloat16
    carry = vars(model.initial_carry(config.train.batch_size, "cpu"))
    for name in ("z_H", "z_L"):
        carry[name].normal_(generator=torch.Generator().manual_seed(0))

    def copies() -> dict[str, Tensor]:
        return {name: weight.clone() for name, weight in model.state_dict().items()}

    weights = {"model": copies(), "ema": copies(), "chosen": {"weights": copies()}, "format": FORMAT}
    return weights, {"optimizers": {"first": copies(), "second": copies()}, "carry": carry}


def copied(store: CheckpointStore, state: tuple[State, State], reports: list[dict[str, float]]) -> None:
    weights, resume = state
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), weights | resume)
        with Path(folder, FILE).open("rb") as file:
            os.fsync(file.fileno())
        store.commit(Path(folder), reports)


def renamed(store: CheckpointStore, state: tuple[State, State], reports: list[dict[str, float]]) -> None:
    store.commit(lambda folder: save_checkpoint(folder, *state), reports)


WAYS: dict[str, Callable[..., None]] = {"copied": copied, "renamed": renamed}


def bytes_sent() -> int:
    """What this process has sent to a disk so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


def measure(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    tempfile.tempdir = str(folder)  # of `copied`: on the same disk
    state = published_state()
    stores = {way: CheckpointStore(folder / way, "accuracy", "max") for way in WAYS}
    found: dict[str, list[tuple[float, int]]] = {way: [] for way in WAYS}
    reports: list[dict[str, float]] = []
    for step in range(1, rounds + 2):  # the first one is the best, and warms up
        reports.append({"step": step, "accuracy": 1 / step})
        for way, keep in WAYS.items():
            began, before = time.perf_counter(), bytes_sent()
            keep(stores[way], state, reports)
            found[way].append((time.perf_counter() - began, bytes_sent() - before))
    return {
        way: {
            "report_s": round(statistics.median(seconds for seconds, _ in each[1:]), 2),
            "sent_mb": round(statistics.median(sent for _, sent in each[1:]) / 1e6, 1),
            "kept_mb": round(
                sum(file.stat().st_size for file in (folder / way).rglob("*") if file.is_file()) / 1e6, 1
            ),
        }
        for way, each in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to measure (default: here)")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="checkpoints-") as folder:
        found = measure(Path(folder).resolve(), given.rounds)
    before, after = found["copied"], found["renamed"]
    found["before over after"] = {name: round(before[name] / after[name], 2) for name in before}
    print(json.dumps({"torch": str(torch.__version__), **found}, indent=2))


if __name__ == "__main__":
    main()
