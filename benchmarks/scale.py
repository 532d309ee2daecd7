"""What the driver of a large sweep costs without its workers: `python -m benchmarks.scale [--out FILE]`.

The project's controller, journal and state, and no Ray: virtual workers report as fast as the driver takes
it, in a random order. All values are equal, so that the scheduler compares every member at every rung and
stops nobody: every trial makes all its reports, but for the first ones, which begin in their midst, so that
trials end one by one from the beginning.

    begin_s         planning all trials
    start_s         until the first workers have their trials
    first_us        a report and what follows from it (ends, starts), in the first tenth of the reports
    last_us         the same in the last tenth; `last_over_first` is to stay below 1.5
    resume_s        reading the journal again, and going on
    peak_mib, resume_peak_mib

An fsync is counted and not waited for: `with_fsync` has the times with so many milliseconds added for each.
Each part runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from sweeps.decide.controller import Controller
from sweeps.plan.build import load_plan
from sweeps.plan.model import Plan
from sweeps.record.journal import Journal, read_journal
from trm.settings.yaml import dump_yaml

SAMPLES = 100_000  # of a whole trial
TENTHS = ("first", *map(str, range(2, 10)), "last")  # of the reports


@dataclass(frozen=True)
class Size:
    """`scheduler` is a kind; its rungs are where it has most of them with 100 reports a trial."""

    trials: int
    reports: int
    at_once: int
    scheduler: str
    arms: int = 10


def make_plan(size: Size, folder: Path) -> Plan:
    """Trials are draws of the search, and one pool has them all."""
    rungs = {"scope": "sweep", "grace_period": SAMPLES / 100, "max_t": SAMPLES}
    space = {
        "name": "scale",
        "trainer": "benchmarks.simulated:train",
        "base": {"max_samples": SAMPLES},
        "objective": {"metric": "accuracy", "mode": "max", "unit": "share"},
        "ablate": {"mixer": [f"arm{place}" for place in range(size.arms)]},
        "tune": {"x": {"uniform": [0, 1]}},
        "search": {"algorithm": "random", "draws_per_arm": size.trials // size.arms, "seeds": [0]},
        "scheduler": {"kind": size.scheduler, **(rungs if size.scheduler != "fifo" else {})},
        "seeds": [1],
        "evidence": {"looks": "none"},
    }
    path = folder / "scale.yaml"
    path.write_text(dump_yaml(space))
    return load_plan(path)


class Clock:
    """Seconds of this process's work, and the fsyncs that were asked for meanwhile."""

    def __init__(self) -> None:
        self.fsyncs = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        def count(descriptor: int) -> None:
            self.fsyncs += 1

        with mock.patch.object(os, "fdatasync", count):
            yield

    def measured(self, work: Callable[[], Any]) -> tuple[float, int]:
        """The seconds and fsyncs of `work`."""
        began, fsyncs = time.perf_counter(), self.fsyncs
        work()
        return time.perf_counter() - began, self.fsyncs - fsyncs


class Workers:
    """Trials that run at once, each with the number of its last step."""

    def __init__(self, controller: Controller, size: Size) -> None:
        self._controller = controller
        self._size = size
        self._order = random.Random(0)
        self._running: list[str] = []
        self._steps: dict[str, int] = {}

    def begin(self) -> None:
        """Give every worker its first trial."""
        self.fill()
        self._steps = {name: self._order.randrange(self._size.reports) for name in self._running}

    @property
    def reports_left(self) -> int:
        """How many reports the trials of the search will make."""
        return self._size.trials * self._size.reports - sum(self._steps.values())

    def fill(self) -> None:
        """Give every free worker a trial."""
        while len(self._running) < self._size.at_once:
            trial = self._controller.next_trial(exclude=self._running)
            if trial is None:
                return
            self._controller.started(trial.trial_id)
            self._running.append(trial.trial_id)
            self._steps[trial.trial_id] = 0

    def report(self, number: int) -> None:
        """So many reports, each by one of the running trials."""
        for _ in range(number):
            place = self._order.randrange(len(self._running))
            trial_id = self._running[place]
            self._steps[trial_id] += 1
            done = self._steps[trial_id] / self._size.reports
            metrics = {"step": self._steps[trial_id], "samples": SAMPLES * done, "accuracy": 0.5}
            metrics |= {"train/loss": 1.0 - done, "val/loss": 1.5 - done}
            if not self._controller.report(trial_id, metrics):
                raise RuntimeError(f"{trial_id} was stopped, though all values are equal")
            if done >= 1:
                self._controller.ended(trial_id, "completed")
                self._running[place] = self._running[-1]
                self._running.pop()
                self.fill()


def run(size: Size, folder: Path) -> dict[str, tuple[float, int]]:
    """The seconds and fsyncs of each part of a sweep, and its peak memory in MiB."""
    plan, clock = make_plan(size, folder), Clock()
    with clock.counting():
        controller = Controller(plan, Journal(folder / "journal.jsonl"))
        workers = Workers(controller, size)
        found = {"begin": clock.measured(controller.begin), "start": clock.measured(workers.begin)}
        tenth = workers.reports_left // 10
        for name in TENTHS:
            found[name] = clock.measured(lambda: workers.report(tenth))
    return {**found, "tenth": (tenth, 0), "peak": (_peak_mib(), 0)}


def resume(size: Size, folder: Path) -> dict[str, tuple[float, int]]:
    """The same of going on with its journal."""
    plan, clock, path = make_plan(size, folder), Clock(), folder / "journal.jsonl"

    def begin() -> None:
        Controller(plan, Journal(path), read_journal(path)).begin()

    with clock.counting():
        return {"resume": clock.measured(begin), "resume_peak": (_peak_mib(), 0)}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(size: Size) -> dict[str, tuple[float, int]]:
    found: dict[str, tuple[float, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in (run, resume):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                found |= process.submit(part, size, Path(folder)).result()
        found["journal"] = (Path(folder, "journal.jsonl").stat().st_size / 2**20, 0)
    return found


def summary(found: dict[str, tuple[float, int]], fsync_ms: float) -> dict[str, float]:
    """The figures of the module's docstring, with so many milliseconds for each fsync."""
    took = {part: seconds + fsyncs * fsync_ms / 1000 for part, (seconds, fsyncs) in found.items()}
    tenths = [took[name] for name in TENTHS]
    each = 1e6 / found["tenth"][0]
    return {
        "begin_s": round(took["begin"], 2),
        "start_s": round(took["start"], 2),
        "first_us": round(tenths[0] * each, 1),
        "last_us": round(tenths[-1] * each, 1),
        "last_over_first": round(tenths[-1] / tenths[0], 2),
        "reports_per_s": round(10 * found["tenth"][0] / sum(tenths)),
        "resume_s": round(took["resume"], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--reports", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=1_000)
    parser.add_argument("--schedulers", nargs="+", default=["asha", "median"], metavar="KIND")
    parser.add_argument("--fsync", nargs="+", type=float, default=[0, 2, 20], metavar="MS")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    results = []
    for kind in given.schedulers:
        size = Size(given.trials, given.reports, given.at_once, kind)
        found = measure(size)
        results.append(
            {
                "trials": size.trials,
                "reports": size.reports,
                "at_once": size.at_once,
                "scheduler": kind,
                "journal_mib": round(found["journal"][0], 1),
                "peak_mib": round(found["peak"][0]),
                "resume_peak_mib": round(found["resume_peak"][0]),
                "fsyncs": sum(fsyncs for _, fsyncs in found.values()),
                "with_fsync": {f"{ms:g} ms": summary(found, ms) for ms in given.fsync},
            }
        )
        print(json.dumps(results[-1], indent=2), flush=True)
    if given.out is not None:
        given.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
