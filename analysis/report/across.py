"""Several sweeps of the same arms, each on a task of its own, as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.compare.across_tasks import (
    BOOTSTRAP_FROM,
    Tables,
    interquartile_means,
    mean_differences,
    metrics_of,
    performance_profiles,
    probability_of_improvement,
    tables_of,
)
from analysis.compare.claims import rule_of
from analysis.format import Unit, aligned, join, name_of, title_of
from analysis.inference.intervals import MIN_FOR_INTERVAL
from analysis.sweep import AnalysisError, load_sweep, records

SHARE = Unit(100.0, "%", "points", 0)
QUARTILES = (0.25, 0.5, 0.75)


def across_text(folders: Sequence[Path]) -> str:
    """The arms that all of these sweeps have, over all of them.

    Raises AnalysisError if they cannot be put together: fewer than two, no shared arm, or other objectives,
    baselines or pairings.
    """
    sweeps = [load_sweep(folder) for folder in folders]
    if len(sweeps) < 2:
        raise AnalysisError("one sweep is one task: give the folders of two or more")
    tables = tables_of(sweeps)
    for what, values in (
        ("baselines", [sweep.baseline for sweep in sweeps]),
        ("evidence.pairing", [rule_of(sweep).pairing for sweep in sweeps]),
    ):
        if len(set(values)) > 1:
            raise AnalysisError(
                f"the sweeps have different {what} ({', '.join(values)}): give those that agree"
            )
    first, metric, pairing = sweeps[0], metrics_of(sweeps)[0], rule_of(sweeps[0]).pairing
    unit = first.unit(metric)
    gaps = mean_differences(tables, first.baseline, pairing).set_index("arm")
    chances = probability_of_improvement(tables, first.baseline, maximise=first.maximise).set_index("arm")
    rows = []
    for row in records(interquartile_means(tables)):
        cells = [row.arm, str(row.n), unit.with_ends(row.iqm, row.low, row.high)]
        if row.arm == first.baseline:
            rows.append([*cells, "baseline", ""])
            continue
        gap, chance = gaps.loc[row.arm], chances.loc[row.arm]
        cells.append(unit.with_ends(gap["diff"], gap["low"], gap["high"], sign=True))
        rows.append([*cells, SHARE.with_ends(chance["probability"], chance["low"], chance["high"])])
    suffix = unit.difference_suffix
    heads = ["arm", "runs", f"interquartile mean {title_of(metric, unit)}", f"mean difference{suffix}"]
    heads.append(f"beats {first.baseline} (%)")
    lines = aligned([heads, *rows])
    looked_at = [sweep.name for sweep in sweeps if sweep.is_exploratory]
    notes = [
        f"{name_of(metric)} over {len(sweeps)} tasks: {join(list(tables))}. 95% intervals, of these tasks.",
        f"Mean difference: {pairing} over seeds, every task alike; t interval from {MIN_FOR_INTERVAL} seeds. "
        f"The others: bootstrap stratified by task, from {BOOTSTRAP_FROM} runs of each arm on each task on.",
    ]
    if looked_at:
        notes.append(f"Exploratory: {join(looked_at)} carr{'y' if len(looked_at) > 1 else 'ies'} no claims.")
    profiles = _profiles(tables, unit, maximise=first.maximise)
    return "\n".join([notes[0], "", *lines, "", *profiles, "", *notes[1:]])


def _profiles(tables: Tables, unit: Unit, *, maximise: bool) -> list[str]:
    """The arms' performance profiles at the quartiles of all runs."""
    runs = np.concatenate([table.to_numpy(dtype=float).ravel() for table in tables.values()])
    thresholds = sorted({*np.nanquantile(runs, QUARTILES).tolist()}, reverse=not maximise)
    found = performance_profiles(tables, thresholds, maximise=maximise)
    than = "above" if maximise else "below"
    rows = [["runs (%)", *(f"{than} {unit.text(threshold)}{unit.suffix}" for threshold in thresholds)]]
    for arm, mine in found.groupby("arm", sort=False):
        rows.append([str(arm), *(SHARE.with_ends(row.share, row.low, row.high) for row in records(mine))])
    return aligned(rows)
