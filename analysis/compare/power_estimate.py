"""The differences that a sweep's evidence can detect, estimated before it is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from analysis.format import Unit
from analysis.inference import power
from analysis.inference.intervals import ALPHA
from analysis.inference.significance import NAMES, Pairing, Test, seeds_needed
from analysis.inference.spread import MIN_DF, PLAN_AT, upper_sd
from analysis.sweep import AnalysisError, load_sweep

MANY_SD = 10  # no difference that is so large needs a test
UNKNOWN = (
    "Differences are in SDs of the difference of two trials of a seed (with nothing in common: 1.4 SDs of an "
    "arm's seeds), as no pilot says how large one is: evidence.pilot takes it from a sweep's results."
)


@dataclass(frozen=True)
class PowerEstimate:
    """Power of `comparisons` with a baseline, each over the same number of seeds.

    `sd` is the SD of the difference between trials of two arms, in the units of the metric: its upper limit,
    or None if it is unknown. `unit` is the metric's. `spread` is a text that gives the source of `sd`.
    `level` is that of all comparisons together, in one look.
    """

    unit: Unit
    comparisons: int
    test: Test
    pairing: Pairing
    sd: float | None
    spread: str
    level: float = ALPHA

    @property
    def rule(self) -> str:
        """The rule that decides whether a difference is found, as text."""
        family = f"{self.level:.2g} over all {self.comparisons} (Holm)"
        family = family if self.comparisons > 1 else f"level {self.level:.2g}"
        return f"by the {NAMES[self.test, self.pairing]} on {self.pairing} seeds, {family}"

    @property
    def fewest_seeds(self) -> int:
        """The fewest seeds with which a result can be significant."""
        return seeds_needed(self.comparisons, self.test, self.pairing, self.level)

    def smallest(self, seeds: int) -> str:
        """The smallest difference that this many seeds detect, as text; '' if they can detect none."""
        found = power.detectable(
            seeds, self.sd or 1.0, self.comparisons, self.test, self.pairing, alpha=self.level
        )
        if math.isinf(found):
            return ""
        if self.sd is not None:
            return _read(self.unit, found)
        return f"{found:.2g} SD" if found <= MANY_SD else f"over {MANY_SD} SD"


def estimate_power(
    metric: str,
    unit: Unit,
    comparisons: int,
    test: Test,
    pairing: Pairing,
    pilot: Path | None,
    level: float = ALPHA,
) -> PowerEstimate:
    """The estimate for a metric in `unit`; `pilot` is the folder of a finished sweep. Raises AnalysisError if
    that gives no SD."""
    sd, spread = (None, UNKNOWN) if pilot is None else pilot_spread(pilot, metric, unit, pairing)
    return PowerEstimate(unit, comparisons, test, pairing, sd, spread, level)


def pilot_spread(folder: Path, metric: str, unit: Unit, pairing: str) -> tuple[float, str]:
    """The upper limit (`upper_sd`) of the SD of a difference between two trials in a sweep's results, and a
    text that gives its source.

    Paired: the pooled SD of the arms' differences to the baseline over shared seeds. Unpaired: sqrt(2) times
    the pooled SD within arms. Uses the metric on test if the sweep has it. Raises AnalysisError, also if the
    SD has fewer than MIN_DF degrees of freedom.
    """
    from analysis.compare.ranking import (
        seed_table,
    )  # imports scipy.stats, which is slow, and a dry run does not need

    sweep = load_sweep(folder)
    names = ("test/" + metric.removeprefix("val/"), metric)
    shown = next((name for name in names if name in sweep.trials and sweep.trials[name].notna().any()), None)
    if shown is None:
        raise AnalysisError(
            f"{folder} has no values of {metric}: give the results of a sweep that reports it"
        )
    table = seed_table(sweep, shown)
    samples, what = table * math.sqrt(2.0), "seeds of an arm"
    if pairing == "paired":
        others = [arm for arm in table if arm != sweep.baseline]
        samples = table[others].sub(table[sweep.baseline], axis=0)
        what = "seeds that an arm and the baseline share"
    counts = samples.count()
    counts = counts[counts > 1]
    freedom = float((counts - 1).sum())
    if pairing == "paired" and len(counts):  # differences from one baseline correlate by 1/2
        freedom /= 1 + (len(counts) - 1) / 4  # and their squares by 1/4
    if freedom < MIN_DF:
        raise AnalysisError(
            f"{folder} has too few completed {what}: their SD has {freedom:.3g} degrees of freedom, and it "
            f"takes {MIN_DF}; give a sweep with more seeds, or none"
        )
    weights = (counts - 1) / (counts - 1).sum()
    seen = math.sqrt(float((samples[counts.index].var(ddof=1) * weights).sum()))
    if not seen > 0:
        raise AnalysisError(f"{folder}: {shown} does not vary over seeds: give another sweep, or none")
    sd = upper_sd(seen, freedom)
    source = f"{shown} in {folder.name} ({pairing}, {freedom:.3g} degrees of freedom)"
    return sd, (
        f"SD of a difference: at most {_read(unit, sd)}, the one-sided {PLAN_AT:.0%} upper confidence limit "
        f"of the {_read(unit, seen)} of {source}."
    )


def _read(unit: Unit, value: float) -> str:
    return f"{unit.text(value)} {unit.difference}".strip()
