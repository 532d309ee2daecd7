"""What `make smoke` costs after set-up: `python -m benchmarks.smoke`. Wall-clock, peak memory, what it found.

Peak memory is the sum of the proportional set sizes (PSS) of the command and all its children, Ray's
included, sampled every half second: shared pages are counted once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

ROOT = Path(__file__).resolve().parent.parent


def memory(process: psutil.Process) -> int:
    total = 0
    for each in [process, *process.children(recursive=True)]:
        try:
            total += each.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def measure() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "run_sweep.py"), str(ROOT / "search_spaces/smoke.yaml")]
        begin, peak = time.monotonic(), 0
        running = psutil.Popen([*command, "--quiet"], cwd=folder, stdout=subprocess.DEVNULL)
        while running.poll() is None:
            peak = max(peak, memory(running))
            time.sleep(0.5)
        seconds = time.monotonic() - begin
        trials = pd.read_parquet(Path(folder, "results", "smoke", "trials.parquet"))
    done = trials[trials.status == "completed"]
    return {
        "exit_status": running.returncode,
        "wall_s": round(seconds, 1),
        "peak_gib": round(peak / 2**30, 2),
        "status": trials.groupby("arm").status.agg(lambda s: ", ".join(sorted(set(s)))).to_dict(),
        "val/exact_accuracy": done.groupby("arm")["val/exact_accuracy"].mean().round(4).to_dict(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
