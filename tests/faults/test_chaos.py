"""Kills at random moments, of the driver and of workers: the sweep ends as if nothing had been.

TRM_SWEEPS_KILLS=200 in the environment makes them two hundred instead of fifty, of a sweep that is as much
longer.
"""

from __future__ import annotations

import json
import os
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.harness import BASE, LIMIT_S, Driver, Sweep, kill, workers

KILLS = int(os.environ.get("TRM_SWEEPS_KILLS", "50"))
KILLS_OF_LOOKS = 20

# Half an hour at fifty kills. 200 took 55 minutes on two cores beside other work (docs/faults.md).
pytestmark = [pytest.mark.faults, pytest.mark.timeout(300 + 30 * KILLS)]

SEED = 0
SHARE_OF_DRIVERS = 0.4
SECONDS_A_STEP = 0.6  # ten steps a trial, two trials at a time
LIMIT = LIMIT_S + 9 * KILLS  # seconds for a launch that is not disturbed: 600 at fifty kills
START_S = 20.0  # within this a driver that was just started may be killed
PAUSE_S = 4.0  # and within this a worker, or a driver whose trials run
PAUSE_OF_LOOKS_S = 8.0  # so that the kills go on after looks have been taken

# Arms by how far they are from the first, from which they differ in nothing else: a seed adds the same to
# each. Two are settled early, one later, one at the last look by being the same, and one never.
BONUS = {"base": 0.0, "better": 0.1, "worse": -0.1, "slightly": 0.008, "same": 0.00001, "close": 0.002}
LOOKS = {
    "ablate": {"case": {"levels": {name: {"model.bonus": bonus} for name, bonus in BONUS.items()}}},
    "seeds": list(range(8)),
    "evidence": {"looks": [2, 3, 5, 8], "margin": 0.005},
}
EXPECTED = {
    "better": ("better", 3),
    "worse": ("worse", 3),
    "slightly": ("better", 5),
    "same": ("equivalent", 8),
    "close": ("not settled", 8),
}  # verdicts, and the seeds that they took


class Chaos:
    """Kills at random. `lines` say what happened, `looks` how many had been taken at the last kill."""

    def __init__(self, sweep: Sweep, seed: int, pause_s: float) -> None:
        self._sweep = sweep
        self._pause_s = pause_s
        self._random = random.Random(seed)
        self._driver: Driver = sweep.start()
        self._is_new = True
        self.lines: list[str] = []
        self.looks = 0

    def strike(self) -> None:
        if self._random.random() < SHARE_OF_DRIVERS:
            self._strike_the_driver()
        else:
            self._strike_a_worker()

    def finish(self) -> int:
        return self._sweep.finish(self._driver, limit_s=LIMIT).returncode

    def _strike_the_driver(self) -> None:
        pause = self._random.uniform(0, START_S if self._is_new else self._pause_s)
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
        time.sleep(self._random.uniform(0, self._pause_s))
        self._must_run()
        there = workers(self._driver) or there
        victim = self._random.choice(there)
        with suppress(psutil.NoSuchProcess):  # it has ended in the meantime, which is as good
            victim.kill()
        self._note("worker")

    def _must_run(self) -> None:
        if self._driver.poll() is not None:
            done = self._sweep.finish(self._driver)
            pytest.fail(f"it ended after {len(self.lines)} kills, with {done.returncode}: {done.stderr}")

    def _note(self, what: str) -> None:
        self.looks = len(self._sweep.events("look"))
        self.lines.append(f"{what}, {len(self._sweep.events('report'))} reports, {self.looks} looks")


def _sweep(folder: Path, seconds_a_step: float, **changes: Any) -> Sweep:
    folder.mkdir()
    base = {**BASE, "seconds_a_step": seconds_a_step}
    return Sweep(folder, base=base, tune=None, search=None, max_failures=KILLS, **changes)


def _whole_and_struck(
    folder: Path, kills: int, least: int, pause_s: float, **changes: Any
) -> tuple[Sweep, Sweep, Chaos]:
    """An undisturbed sweep, the same one after so many kills, which has ended as the other did, and what
    struck it: at least `least` of the kills a driver, and as many a worker."""
    whole = _sweep(folder / "whole", 0.0, **changes)
    assert whole.finish(whole.start(), limit_s=LIMIT).returncode == 0

    sweep = _sweep(folder / "struck", SECONDS_A_STEP, **changes)
    began = time.monotonic()
    chaos = Chaos(sweep, SEED, pause_s)
    for _ in range(kills):
        chaos.strike()
    assert chaos.finish() == 0
    print(f"{kills} kills, {time.monotonic() - began:.0f} s", *chaos.lines, sep="\n")  # seen with pytest -s

    sweep.assert_ends_as(whole)
    trials = len(whole.statuses())
    assert len(sweep.events("trial")) == trials and len(sweep.events("end")) == trials
    struck = [sum(line.startswith(what) for line in chaos.lines) for what in ("driver", "worker")]
    assert sum(struck) == kills and min(struck) >= least
    sweep.assert_nothing_is_left()
    return whole, sweep, chaos


def test_many_kills(tmp_path: Path) -> None:
    share = KILLS * 3 // 10  # fifty kills need 60 trials, 15 seeds of four arms, and hit each kind 15 times
    kinds = {"model.kind": ["a", "b", "c", "d"]}
    space = {"ablate": kinds, "seeds": list(range(share)), "evidence": {"looks": "none"}}
    whole, _, _ = _whole_and_struck(tmp_path, KILLS, share, PAUSE_S, **space)
    assert len(whole.statuses()) == 4 * share


def test_kills_change_no_verdict(tmp_path: Path) -> None:
    """Of a sweep that looks at its evidence as it goes, and gives no more seeds to arms that are settled."""
    whole, sweep, chaos = _whole_and_struck(tmp_path, KILLS_OF_LOOKS, 4, PAUSE_OF_LOOKS_S, **LOOKS)
    assert chaos.looks, "no kill came after a look"
    assert _verdicts(sweep) == _verdicts(whole)
    assert _looks(sweep) == _looks(whole)
    found = {row["arm"].removeprefix("case="): row for row in _verdicts(whole)["comparisons"]}
    verdicts = {arm: (row["verdict"], row["n"]) for arm, row in found.items()}
    assert verdicts == EXPECTED


def _verdicts(sweep: Sweep) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((sweep.results / "verdicts.json").read_text())
    return found


def _looks(sweep: Sweep) -> list[dict[str, Any]]:
    """The looks as they were recorded, and what they were to be, but for the times and the hash of the
    space, in which the seconds a step differ."""
    events = [*sweep.events("stage"), *sweep.events("look")]
    return [{**event, "time": None, "hash": None} for event in events]
