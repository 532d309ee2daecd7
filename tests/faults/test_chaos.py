"""Fifty kills at random moments, of the driver and of workers: the sweep ends as if nothing had been."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.faults.harness import BASE, Driver, Sweep, kill, workers

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

SEED = 0
KILLS = 50
SHARE_OF_DRIVERS = 0.4
SECONDS_A_STEP = 0.6  # 60 trials of 10 steps, two at a time: long enough to be killed so often
START_S = 20.0  # within this a driver that was just started may be killed
PAUSE_S = 4.0  # and within this a worker, or a driver whose trials run


class Chaos:
    """Kills at random. `lines` say what happened."""

    def __init__(self, sweep: Sweep, seed: int) -> None:
        self._sweep = sweep
        self._random = random.Random(seed)
        self._driver: Driver = sweep.start()
        self._is_new = True
        self.lines: list[str] = []

    def strike(self) -> None:
        if self._random.random() < SHARE_OF_DRIVERS:
            self._strike_the_driver()
        else:
            self._strike_a_worker()

    def finish(self) -> int:
        return self._sweep.finish(self._driver, limit_s=600).returncode

    def _strike_the_driver(self) -> None:
        pause = self._random.uniform(0, START_S if self._is_new else PAUSE_S)
        time.sleep(pause)
        self._must_run()
        kill(self._driver)
        self._note("driver")
        # A driver that died before the sweep's first event has left nothing to go on with.
        begun = (self._sweep.results / "sweep.yaml").exists()
        self._driver = self._sweep.start(*["--resume"] * begun)
        self._is_new = True

    def _strike_a_worker(self) -> None:
        while not (there := workers(self._driver)):
            self._must_run()
            time.sleep(0.1)
        self._is_new = False
        time.sleep(self._random.uniform(0, PAUSE_S))
        self._must_run()
        there = workers(self._driver) or there
        victim = self._random.choice(there)
        with suppress(psutil.NoSuchProcess):  # it has ended in the meantime, which is as good
            victim.kill()
        self._note("worker")

    def _must_run(self) -> None:
        assert self._driver.poll() is None, (
            f"it ended after {len(self.lines)} kills, with {self._driver.poll()}"
        )

    def _note(self, what: str) -> None:
        self.lines.append(f"{what}, {len(self._sweep.events('report'))} reports")


def _sweep(folder: Path, seconds_a_step: float) -> Sweep:
    base = {**BASE, "seconds_a_step": seconds_a_step}
    kinds = {"model.kind": ["a", "b", "c", "d"]}
    return Sweep(
        folder, base=base, ablate=kinds, tune=None, search=None, seeds=list(range(15)), max_failures=KILLS
    )


def test_fifty_kills(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "struck").mkdir()
    whole = _sweep(tmp_path / "whole", 0.0)
    assert whole.run().returncode == 0
    assert len(whole.statuses()) == 60

    sweep = _sweep(tmp_path / "struck", SECONDS_A_STEP)
    began = time.monotonic()
    chaos = Chaos(sweep, SEED)
    for _ in range(KILLS):
        chaos.strike()
    assert chaos.finish() == 0
    print(f"{time.monotonic() - began:.0f} s", *chaos.lines, sep="\n")  # seen with pytest -s

    sweep.assert_ends_as(whole)
    assert len(sweep.events("trial")) == 60 and len(sweep.events("end")) == 60
    struck = [sum(line.startswith(what) for line in chaos.lines) for what in ("driver", "worker")]
    assert sum(struck) == KILLS and min(struck) >= 15
    sweep.assert_nothing_is_left()
