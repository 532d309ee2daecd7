"""What a sweep costs around its trials, beside plain Ray Tune: `python -m benchmarks.overhead [--out FILE]`.

Trials that do nothing but report, two at once on two cores, one after the other in the same run:

    plain      Ray Tune as its documentation has it, with its MLflow callback
    plain, no MLflow
    ours       run_sweep.py: journal, MLflow and a checkpoint at every report included

`warm_s` is the time a trial costs once workers are warm: the mean over all trials but the first tenth.
`first_report_s` is counted from the command. Then a long sweep, 1,000 trials of 10 reports: what a report
costs the driver around trial 10, and around the last one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from sweeps.record.journal import read_journal

ROOT = Path(__file__).resolve().parent.parent
WARM_UP = 0.1  # share of the trials, in which workers start and MLflow makes its tables
WINDOW = 40  # trials at the beginning and at the end of the long sweep


def plain(trials: int, reports: int, *more: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.json")
        arguments = [str(out), "--trials", str(trials), "--reports", str(reports), *more]
        _run([sys.executable, "-m", "benchmarks.plain_tune", *arguments], ROOT)
        found = json.loads(out.read_text())
    return _costs(found["first_report_s"], found["ends_s"])


def ours(trials: int, reports: int) -> dict[str, float]:
    began, events = _sweep(trials, reports)
    first = next(event["time"] for event in events if event["event"] == "report")
    return _costs(first - began, [event["time"] - began for event in events if event["event"] == "end"])


def at_length(trials: int, reports: int) -> dict[str, float]:
    """Seconds a report, by the clock, in the trials after the tenth and in the last."""
    began, events = _sweep(trials, reports)
    ends = [event["time"] for event in events if event["event"] == "end"]
    early = (ends[10 + WINDOW] - ends[10]) / (WINDOW * reports)
    late = (ends[-1] - ends[-1 - WINDOW]) / (WINDOW * reports)
    return {
        "trials": trials,
        "reports": reports,
        "seconds": round(ends[-1] - began, 1),
        "early_ms_a_report": round(1000 * early, 2),
        "late_ms_a_report": round(1000 * late, 2),
        "late_over_early": round(late / early, 2),
    }


def _sweep(trials: int, reports: int) -> tuple[float, list[dict[str, Any]]]:
    """When the command was given, and the journal."""
    space = {
        "name": "overhead",
        "trainer": "benchmarks.noop:train",
        "base": {"reports": reports},
        "objective": {"metric": "val/accuracy", "mode": "max"},
        "ablate": {"level": [0, 1]},
        "seeds": list(range(trials // 2)),
        "evidence": {"looks": "none"},  # which would end it early
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "overhead.yaml")
        path.write_text(yaml.safe_dump(space))
        began = time.time()
        _run([sys.executable, str(ROOT / "run_sweep.py"), str(path), "--quiet"], Path(folder))
        return began, list(read_journal(Path(folder, "results", "overhead", "journal.jsonl")))


def _run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)


def _costs(first_report_s: float, ends_s: list[float]) -> dict[str, float]:
    first = max(4, int(WARM_UP * len(ends_s)))
    warm = (ends_s[-1] - ends_s[first - 1]) / (len(ends_s) - first)
    return {"trials": len(ends_s), "first_report_s": round(first_report_s, 1), "warm_s": round(warm, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument(
        "--long", type=int, default=1000, metavar="TRIALS", help="0: leave the long sweep out"
    )
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {
        "plain": plain(16, 1, "--mlflow"),
        "plain, no MLflow": plain(16, 1),
        "ours": ours(given.trials, 1),
    }
    if given.long:
        found["long"] = at_length(given.long, 10)
    text = json.dumps(found, indent=2)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
