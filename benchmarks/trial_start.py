"""What it costs to start a trial: `python -m benchmarks.trial_start [--trials 12] [--compile on]`.

A sweep of tiny TRM trials on one core, one after the other, MLflow and checkpoints included. From its
journal: the time from one trial's end to the next one's first report, less the time that the trainer says
it trained; and that time whole (`to_report`), which has a training step, an evaluation and whatever is
compiled for them. The first trial, which starts Ray's worker and imports torch, stands apart; what the
imports take, each in a fresh process, stands beside it. Printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from sweeps.record.journal import read_journal

ROOT = Path(__file__).resolve().parent.parent


def space(trials: int, compiled: str) -> dict[str, Any]:
    return {
        "name": "trial_start",
        "base": {
            "model": {
                "hidden_size": 32,
                "h_cycles": 1,
                "l_cycles": 1,
                "halt_max_steps": 2,
            },
            "data": {"task": "sudoku", "source": "embedded", "size": 4},
            "optim": {"lr_warmup_steps": 0},
            "train": {"batch_size": 32, "max_samples": 64, "compile": compiled},
            "eval": {"every_samples": 32, "val_rows": 32, "batch_size": 64},
        },
        "objective": {"metric": "val/exact_accuracy", "mode": "max"},
        "ablate": {"model.mixer.kind": ["mlp"]},
        "seeds": list(range(1, trials + 1)),
        "max_concurrent": 1,
    }


def measure(trials: int, compiled: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trial_start.yaml")
        path.write_text(yaml.safe_dump(space(trials, compiled)))
        command = [sys.executable, str(ROOT / "run_sweep.py"), str(path), "--quiet"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        events = list(read_journal(Path(folder, "results", "trial_start", "journal.jsonl")))
    costs, to_report, free_since, reported = [], [], events[0]["time"], set()
    for event in events:
        if event["event"] == "report" and event["trial_id"] not in reported:
            reported.add(event["trial_id"])
            to_report.append(event["time"] - free_since)
            costs.append(to_report[-1] - event["wall_s"])
        elif event["event"] == "end":
            free_since = event["time"]
    later = costs[1:]
    return {
        "trials": trials,
        "compile": compiled,
        "first_s": round(costs[0], 2),
        "later_median_s": round(statistics.median(later), 3),
        "later_max_s": round(max(later), 3),
        "to_report_first_s": round(to_report[0], 2),
        "to_report_later_median_s": round(statistics.median(to_report[1:]), 3),
        "to_report_later_max_s": round(max(to_report[1:]), 3),
        "import": {module: import_time(module) for module in ("trm", "torch", "trm.trainer")},
    }


def import_time(module: str) -> dict[str, float]:
    """Medians over five fresh processes: seconds on the clock, and seconds of work."""
    code = (
        f"import time; b = time.perf_counter(); import {module}; "
        "print(time.perf_counter() - b, time.process_time())"
    )
    times = [
        map(float, subprocess.check_output([sys.executable, "-c", code], cwd=ROOT).split()) for _ in range(5)
    ]
    wall, work = (round(statistics.median(each), 2) for each in zip(*times, strict=True))
    return {"wall_s": wall, "work_s": work}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--compile", choices=["off", "on"], default="off")
    given = parser.parse_args()
    print(json.dumps(measure(given.trials, given.compile), indent=2))
