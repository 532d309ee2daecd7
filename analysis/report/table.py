"""The ranked table: its columns once, for the page, for LaTeX and for CSV."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.compare.claims import rule_of
from analysis.compare.ranking import claim_of, rank_arms
from analysis.format import Unit, duration, name_of, p_text, si, title_of
from analysis.inference.intervals import BCA_FROM
from analysis.sweep import Sweep


@dataclass(frozen=True)
class Column:
    """Of each arm's row in `rank_arms`: what is written, and the numbers behind it in the head's unit."""

    head: str
    text: Callable[[pd.Series], str]
    value: Callable[[pd.Series], Any]
    interval: Callable[[pd.Series], tuple[float, float]] = lambda row: (math.nan, math.nan)
    below: Callable[[pd.Series], str] = lambda row: ""  # in small print: the interval
    csv_head: str = ""  # where the numbers have another unit than the text


@dataclass(frozen=True)
class Match:
    """How an arm met the sweep's matched budget, where there is one."""

    key: str
    value: float  # NaN where the arm has no such key
    off: float  # relative to what was asked for
    matched: bool


def columns(sweep: Sweep) -> list[Column]:
    """All but the arm itself. The difference and its p are those of the test split where there is one."""
    prefix = "test_" if sweep.test_metric else ""
    metric, unit = sweep.test_metric or sweep.metric, sweep.unit(sweep.metric)
    found = [Column("n", lambda row: str(row["n"]), lambda row: row["n"])]
    found.append(_mean(sweep.metric, "", unit))
    if prefix:
        found.append(_mean(metric, prefix, unit))
    found.append(_difference(sweep, prefix, unit))
    if claim_of(sweep) == "confirmatory":
        found.append(_p(sweep, prefix))
    found += [
        _number("parameters", "num_params", si),
        _number("FLOPs / sample", "flops_per_sample", si),
        _number("wall time", "wall_s", duration, "wall time (s)"),
    ]
    matches = matches_of(sweep)
    if matches:
        keys = {match.key for match in matches.values()}
        head = f"matched {keys.pop().rpartition('.')[2]}" if len(keys) == 1 else "matched"

        def value(row: pd.Series) -> float:
            return matches[row["arm"]].value if row["arm"] in matches else math.nan

        found.append(Column(head, lambda row: f"{value(row):g}" if math.isfinite(value(row)) else "–", value))
    return found


def matches_of(sweep: Sweep) -> dict[str, Match]:
    """By arm; empty where the sweep matches no budget."""
    found = {}
    for arm, known in (sweep.resolved.get("arms") or {}).items():
        match = (known or {}).get("match")
        if match:
            value = math.nan if match.get("value") is None else float(match["value"])
            found[arm] = Match(str(match.get("key")), value, float(match["off"]), bool(match["matched"]))
    return found


def unmatched_text(sweep: Sweep) -> str:
    """The footnote to arms that missed the matched budget; '' where none did."""
    off = {arm: match for arm, match in matches_of(sweep).items() if not match.matched}
    if not off:
        return ""
    asked = sweep.space.get("match") or {}
    names = {"params": "parameters", "flops": "FLOPs"}
    what = next((said for key, said in names.items() if asked.get(key) is not None), "budget")
    missed = ", ".join(f"{arm} by {100 * match.off:+.1f}%" for arm, match in off.items()).replace("-", "−")
    return f"† Not matched: misses the {what} asked for ({missed})."


def marked(sweep: Sweep, arm: str) -> str:
    """The arm's name, with the mark of the footnote where it missed the matched budget."""
    match = matches_of(sweep).get(arm)
    return f"{arm} †" if match and not match.matched else arm


def outcome(row: pd.Series) -> str:
    """What became of an arm's trials, where not all completed."""
    words = {"pruned": "stopped early", "diverged": "diverged", "failed": "failed", "open": "not finished"}
    found = ((row[f"n_{status}"], said) for status, said in words.items())
    return ", ".join(f"{count} of {row['n_trials']} {said}" for count, said in found if count)


def to_csv(sweep: Sweep) -> str:
    """A row an arm, best first: each column's number, the ends of its interval where it has one, the verdict,
    what became of trials that did not complete, and where a budget was matched how far the arm is off it."""
    ranked, prefix = rank_arms(sweep), "test_" if sweep.test_metric else ""
    numbers = {"arm": ranked["arm"]}
    for column in columns(sweep):
        head = column.csv_head or column.head
        numbers[head] = pd.Series([column.value(row) for _, row in ranked.iterrows()])
        ends = pd.DataFrame([column.interval(row) for _, row in ranked.iterrows()], columns=["low", "high"])
        if ends["low"].notna().any():
            numbers |= {f"{head} {end}": ends[end] for end in ends}
    numbers["verdict"] = ranked[f"{prefix}verdict"]
    numbers["not completed"] = pd.Series([outcome(row) for _, row in ranked.iterrows()])
    if matches := matches_of(sweep):
        off = {arm: 100 * match.off for arm, match in matches.items()}
        numbers["off the matched budget (%)"] = ranked["arm"].map(off)
    return pd.DataFrame(numbers).to_csv(index=False)


def _number(head: str, key: str, text: Callable[[float], str], csv_head: str = "") -> Column:
    return Column(head, lambda row: text(row[key]), lambda row: row[key], csv_head=csv_head)


def _mean(metric: str, prefix: str, unit: Unit) -> Column:
    def interval_text(row: pd.Series) -> str:
        low, high = row[f"{prefix}low"], row[f"{prefix}high"]
        if low == high:
            return "no spread"
        return f"[{unit.text(low)}, {unit.text(high)}]" if pd.notna(low) else ""

    return Column(
        title_of(metric, unit),
        lambda row: unit.text(row[f"{prefix}mean"]),
        lambda row: row[f"{prefix}mean"] * unit.factor,
        lambda row: (row[f"{prefix}low"] * unit.factor, row[f"{prefix}high"] * unit.factor),
        interval_text,
    )


def _difference(sweep: Sweep, prefix: str, unit: Unit) -> Column:
    key = f"{prefix}diff"

    def text(row: pd.Series) -> str:
        return "baseline" if row["arm"] == sweep.baseline else unit.text(row[key], sign=True)

    def interval_text(row: pd.Series) -> str:
        low, high = (unit.text(row[f"{key}_{end}"], sign=True) for end in ("low", "high"))
        return f"[{low}, {high}]" if pd.notna(row[f"{key}_low"]) else ""

    return Column(
        "difference to baseline" + (f" ({unit.difference})" if unit.difference else ""),
        text,
        lambda row: row[key] * unit.factor,
        lambda row: (row[f"{key}_low"] * unit.factor, row[f"{key}_high"] * unit.factor),
        interval_text,
    )


def _p(sweep: Sweep, prefix: str) -> Column:
    def note(row: pd.Series) -> str:
        return "" if row["arm"] == sweep.baseline else str(row[f"{prefix}verdict"])

    key = f"{prefix}p_adjusted"
    return Column("p (Holm)", lambda row: p_text(row[key]), lambda row: row[key], below=note)


def how_to_read(sweep: Sweep) -> str:
    """What the table's numbers are, in sentences."""
    family, metric = len(sweep.arms) - 1, sweep.test_metric or sweep.metric
    rule = rule_of(sweep)
    split = f"Ranked on {name_of(sweep.metric)}, claims on {name_of(metric)}. " if sweep.test_metric else ""
    cut = " (cut where no value can be)" if math.isfinite(sweep.unit(sweep.metric).limits[0]) else ""
    p = "exploratory, therefore without p"
    if claim_of(sweep) == "confirmatory":
        p = f"p is that of the {rule.name}, Holm-adjusted over {family} comparison{'s' * (family != 1)}"
    paired = f"paired over the seeds shared with {sweep.baseline}"
    between = paired if rule.pairing == "paired" else f"of means, from {sweep.baseline}"
    return (
        f"{split}Mean of the completed trials' last values over n seeds, with its 95% interval{cut}: Student "
        f"t, from {BCA_FROM} seeds on BCa. Differences are in {name_of(metric)}, {between}; {p}. FLOPs are "
        "those of training."
    )
