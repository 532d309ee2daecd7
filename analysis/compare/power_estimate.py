"""What the evidence of a sweep will be able to tell, before it is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from analysis.format import unit_of
from analysis.inference import power
from analysis.inference.significance import NAMES, Pairing, Test, seeds_needed
from analysis.sweep import AnalysisError, load_sweep

SEED_SD = 0.013  # of an accuracy over seeds, where no pilot says: 1.3 points


@dataclass(frozen=True)
class PowerEstimate:
    """Of `comparisons` with a baseline, each over the same number of seeds.

    `sd` is of the difference between a trial of one arm and one of another, in the units of `metric`; None
    where nothing is known of it. `spread` says where it is from.
    """

    metric: str
    comparisons: int
    test: Test
    pairing: Pairing
    sd: float | None
    spread: str

    @property
    def rule(self) -> str:
        """By which a difference is found."""
        family = f"5% over all {self.comparisons} (Holm)" if self.comparisons > 1 else "5%"
        return f"by the {NAMES[self.test, self.pairing]} on {self.pairing} seeds, {family}"

    @property
    def fewest_seeds(self) -> int:
        """With fewer no result can be significant."""
        return seeds_needed(self.comparisons, self.test, self.pairing)

    def smallest(self, seeds: int) -> str:
        """The smallest difference that so many seeds find, as it is read; '' where they can find none."""
        found = power.detectable(seeds, self.sd or 1.0, self.comparisons, self.test, self.pairing)
        if math.isinf(found):
            return ""
        return f"{found:.2g} SD" if self.sd is None else _read(self.metric, found)


def estimate_power(
    metric: str, comparisons: int, test: Test, pairing: Pairing, pilot: Path | None
) -> PowerEstimate:
    """`pilot` is the folder of a sweep that was run. Raises AnalysisError where it does not tell a spread."""
    sd, spread = _assumed(metric, pairing) if pilot is None else pilot_spread(pilot, metric, pairing)
    return PowerEstimate(metric, comparisons, test, pairing, sd, spread)


def _assumed(metric: str, pairing: str) -> tuple[float | None, str]:
    remedy = "evidence.pilot takes it from a sweep's results."
    if unit_of(metric).difference != "points":
        return None, f"Differences are in SDs of a difference, as no pilot says how large one is: {remedy}"
    sd = math.sqrt(2.0) * SEED_SD
    each = f"{_read(metric, SEED_SD)} over an arm's seeds"
    each += ", the arms uncorrelated over shared ones" if pairing == "paired" else ""
    return sd, f"SD of a difference: {_read(metric, sd)}, assumed ({each}); {remedy}"


def pilot_spread(folder: Path, metric: str, pairing: str) -> tuple[float, str]:
    """The SD of a difference between two trials in a sweep's results, and where it is from.

    Paired: of its arms' differences to its baseline over shared seeds, pooled. Unpaired: sqrt(2) times the SD
    within its arms, pooled. Of the metric on test where the sweep has it. Raises AnalysisError.
    """
    from analysis.compare.ranking import seed_table  # loads scipy.stats, which a dry run need not wait for

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
    freedom = int((counts - 1).sum())
    if not freedom:
        raise AnalysisError(f"{folder} has no two completed {what}: give a sweep with more seeds, or none")
    variances = samples[counts.index].var(ddof=1)
    sd = math.sqrt(float((variances * (counts - 1)).sum()) / freedom)
    if not sd > 0:
        raise AnalysisError(f"{folder}: {shown} does not vary over seeds: give another sweep, or none")
    pairs = f"{pairing}, {freedom} degrees of freedom"
    return sd, f"SD of a difference: {_read(metric, sd)}, as of {shown} in {folder.name} ({pairs})."


def _read(metric: str, value: float) -> str:
    unit = unit_of(metric)
    return f"{unit.text(value)} {unit.difference}".strip()
