"""The ranked table: its columns once, for the page, for LaTeX and for CSV."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from analysis.compare.claims import claims_of, rule_of
from analysis.compare.comparisons import EQUIVALENT
from analysis.compare.ranking import lost_seeds, rank_arms, seed_table
from analysis.explain.tuning import at_edge, chosen_values, tuned
from analysis.format import Unit, duration, join, name_of, p_text, p_words, si, title_of
from analysis.inference.decision import DECIDED
from analysis.inference.intervals import ALPHA, BCA_FROM, MIN_FOR_INTERVAL
from analysis.report.sentences import adjustment
from analysis.sweep import Sweep


@dataclass(frozen=True)
class Column:
    """Of each arm's row in `rank_arms`: what is written, and the numbers behind it in the head's unit."""

    head: str
    text: Callable[[pd.Series], str]
    value: Callable[[pd.Series], Any]
    interval: Callable[[pd.Series], tuple[float, float]] = lambda row: (math.nan, math.nan)
    below: Callable[[pd.Series], str] = lambda row: ""  # in small print: the interval
    note: Callable[[pd.Series], str] = lambda row: ""  # in small print below that: words
    csv_head: str = ""  # where the numbers have another unit than the text
    below_head: str = ""  # of `below` and `note`, where they have a column of their own
    for_paper: bool = True  # whether the table in LaTeX, which is narrow, has it


@dataclass(frozen=True)
class Match:
    """How an arm met the sweep's matched budget, where there is one."""

    key: str
    value: float  # NaN where the arm has no such key
    off: float  # relative to what was asked for
    matched: bool


def columns(sweep: Sweep) -> list[Column]:
    """All but the arm itself, the answer first. The difference and its p are those of the test split where
    there is one."""
    prefix = "test_" if sweep.test_metric else ""
    metric, unit = sweep.shown_metric, sweep.unit(sweep.metric)
    found = [_mean(sweep, metric, prefix, unit), _difference(sweep, prefix, unit)]
    if not sweep.is_exploratory and rule_of(sweep).is_of_arms:
        found.append(_p(sweep, prefix))
    found.append(_seeds(sweep))
    if prefix:
        found.append(replace(_mean(sweep, sweep.metric, "", unit), for_paper=False))
    found += _best(sweep, unit) + _chosen(sweep)
    found += [
        _number("parameters", "num_params", si),
        replace(_number("FLOPs / sample", "flops_per_sample", si), for_paper=False),
        replace(_number("wall time", "wall_s", duration, "wall time (s)"), for_paper=False),
    ]
    matches = matches_of(sweep)
    if matches:
        keys = {match.key for match in matches.values()}
        head = f"matched {keys.pop().rpartition('.')[2]}" if len(keys) == 1 else "matched"

        def value(row: pd.Series) -> float:
            return matches[row["arm"]].value if row["arm"] in matches else math.nan

        found.append(
            Column(head, lambda row: f"{value(row):.10g}" if math.isfinite(value(row)) else "–", value)
        )
    return found


def _seeds(sweep: Sweep) -> Column:
    """The seeds behind the mean; of the evidence, how many were run and how many are left."""
    evidence = sweep.trials[sweep.trials["phase"] == "evidence"]
    planned, begun = len(sweep.space.get("seeds") or []), evidence[evidence["status"] != "not_started"]
    run = begun.groupby("arm")["seed"].nunique()

    def left(row: pd.Series) -> str:
        spent = int(run.get(row["arm"], 0))
        said = [f"of {spent} run"] if 0 < row["n"] < spent else []
        return ", ".join([*said, f"{planned} planned"] if 0 < spent < planned else said)

    return Column("seeds", lambda row: str(row["n"]), lambda row: row["n"], below=left, csv_head="n")


def _best(sweep: Sweep, unit: Unit) -> list[Column]:
    """Of the checkpoints that were best on the objective: their test value where the trainer reports it, else
    the best value itself, which is the greater the more often one looks."""
    name = (sweep.test_metric or "").replace("test/", "test/chosen_", 1)
    head = "test at best val"
    if not name or name not in sweep.trials:
        name, head = f"best/{sweep.metric}", f"best {name_of(sweep.metric)}"
    if name not in sweep.trials or not sweep.trials[name].notna().any():
        return []
    mean = seed_table(sweep, name).mean()
    suffix = f" ({unit.suffix})" if unit.suffix else ""
    return [
        Column(
            head + suffix,
            lambda row: unit.text(mean[row["arm"]]),
            lambda row: mean[row["arm"]] * unit.factor,
            for_paper=False,
        )
    ]


def _chosen(sweep: Sweep) -> list[Column]:
    """A column a tuned key: the value at the draw that was chosen, and whether it is at the edge."""
    chosen, edges = chosen_values(sweep), at_edge(sweep)

    def of(key: str) -> Column:
        def text(row: pd.Series) -> str:
            values = chosen[row["arm"]].get(key, [])
            return ", ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in values) or "–"

        def value(row: pd.Series) -> Any:
            values = chosen[row["arm"]].get(key, [])
            return values[0] if len(values) == 1 else ", ".join(map(str, values)) or math.nan

        def edge(row: pd.Series) -> str:
            found = edges.get((row["arm"], key))
            return f"{found} tried" if found else ""

        return Column(f"chosen {key.rpartition('.')[2]}", text, value, note=edge, csv_head=f"chosen {key}")

    return [of(key) for key in tuned(sweep)]


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
    names = {"params": "parameters", "flops": "FLOPs", "train_flops": "training FLOPs"}
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
    """A row an arm, best first: each column's number, the ends of its interval where some arm has one, the
    verdict, the look at which it was reached and the note on it, what became of trials that did not complete,
    and where a budget was matched how far the arm is off it."""
    ranked, prefix = rank_arms(sweep), "test_" if sweep.test_metric else ""
    numbers = {"arm": ranked["arm"]}
    for column in columns(sweep):
        head = column.csv_head or column.head
        numbers[head] = pd.Series([column.value(row) for _, row in ranked.iterrows()])
        ends = pd.DataFrame([column.interval(row) for _, row in ranked.iterrows()], columns=["low", "high"])
        if ends["low"].notna().any():
            numbers |= {f"{head} {end}": ends[end] for end in ends}
    numbers |= {name: ranked[f"{prefix}{name}"] for name in ("against", "verdict", "look", "note")}
    numbers["not completed"] = pd.Series([outcome(row) for _, row in ranked.iterrows()])
    if matches := matches_of(sweep):
        off = {arm: 100 * match.off for arm, match in matches.items()}
        numbers["off the matched budget (%)"] = ranked["arm"].map(off)
    return pd.DataFrame(numbers).to_csv(index=False)


def _number(head: str, key: str, text: Callable[[float], str], csv_head: str = "") -> Column:
    return Column(head, lambda row: text(row[key]), lambda row: row[key], csv_head=csv_head)


def own_interval(row: pd.Series, values: pd.Series, unit: Unit, prefix: str = "") -> str:
    """An arm's own interval as text; the seeds' values where they are too few for one."""
    low, high = row[f"{prefix}low"], row[f"{prefix}high"]
    if low == high:
        return "no spread"
    if pd.notna(low):
        return unit.ends(low, high)
    seen = [unit.text(value) for value in values.dropna()]
    return f"seeds: {', '.join(seen)}" if len(seen) > 1 else ""


def _mean(sweep: Sweep, metric: str, prefix: str, unit: Unit) -> Column:
    seeds = seed_table(sweep, metric)

    return Column(
        title_of(metric, unit),
        lambda row: unit.text(row[f"{prefix}mean"]),
        lambda row: row[f"{prefix}mean"] * unit.factor,
        lambda row: (row[f"{prefix}low"] * unit.factor, row[f"{prefix}high"] * unit.factor),
        lambda row: own_interval(row, seeds[row["arm"]], unit, prefix),
        below_head="95% interval",
    )


def _difference(sweep: Sweep, prefix: str, unit: Unit) -> Column:
    key, asks_best = f"{prefix}diff", rule_of(sweep).question == "best"
    seeds = seed_table(sweep, sweep.shown_metric)

    def text(row: pd.Series) -> str:
        return "baseline" if row["arm"] == row[f"{prefix}against"] else unit.text(row[key], sign=True)

    def interval_text(row: pd.Series) -> str:
        against = row[f"{prefix}against"]
        if row["arm"] == against or pd.isna(row[key]):
            return ""
        if pd.notna(row[f"{key}_low"]):
            return unit.ends(row[f"{key}_low"], row[f"{key}_high"], sign=True)
        is_decided = row[f"{prefix}verdict"] in DECIDED  # by an exact test, which needs no spread
        has_spread = (seeds[[row["arm"], against]].std() != 0).any()
        return "– (too few seeds)" if has_spread and not is_decided else "– (no spread)"

    return Column(
        ("difference" if asks_best else "difference to baseline") + unit.difference_suffix,
        text,
        lambda row: row[key] * unit.factor,
        lambda row: (row[f"{key}_low"] * unit.factor, row[f"{key}_high"] * unit.factor),
        interval_text,
        lambda row: f"to {row[f'{prefix}against']}" if asks_best and pd.notna(row[key]) else "",
        below_head="its interval",
    )


def _p(sweep: Sweep, prefix: str) -> Column:
    claims, key = claims_of(sweep), f"{prefix}p_adjusted"
    closed = [{*row.arm_and_against} for row in claims.recorded if row.closed]

    def verdict(row: pd.Series) -> str:
        if row["arm"] == row[f"{prefix}against"]:
            return ""
        said = str(row[f"{prefix}verdict"])
        return f"{said}, {p_words(row[f'{prefix}p_equivalent_adjusted'])}" if said == EQUIVALENT else said

    def note(row: pd.Series) -> str:
        if not row[f"{prefix}look"]:
            return str(row[f"{prefix}note"])
        of = claims.number_of_looks(row["arm"], row[f"{prefix}against"])
        look, said = f"look {row[f'{prefix}look']}", str(row[f"{prefix}note"])
        state = "closed at" if {row["arm"], row[f"{prefix}against"]} in closed else "open after"
        at = f"{state} {look} of {of}" if of > 1 else ""
        return "; ".join(filter(None, [at, said.replace(f" at {look}", "")]))

    head = "p (Holm)" if claims.rule.margin is None else "p (Shaffer)"
    return Column(
        head,
        lambda row: p_text(row[key]),
        lambda row: row[key],
        below=verdict,
        note=note,
        below_head="verdict",
    )


def how_to_read(sweep: Sweep) -> str:
    """What the table's numbers are, in sentences."""
    metric, rule = sweep.shown_metric, rule_of(sweep)
    split = f"Ranked on {name_of(sweep.metric)}, claims on {name_of(metric)}. " if sweep.test_metric else ""
    cut = ""
    if math.isfinite(sweep.unit(sweep.metric).limits[0]):
        cut = ", cut where no value can be, left out if it holds every possible value"
    p = "They are exploratory, therefore without p. "
    if not sweep.is_exploratory:
        p = f"p is that of the {rule.name}, {adjustment(sweep)}. "
        if not rule.is_of_arms:
            p = f"The sweep asks for {rule.question}, not for these: they have no p, but a 95% interval. "
    other = "the arm named" if rule.question == "best" else sweep.baseline
    between = (
        f"over the seeds shared with {other}" if rule.pairing == "paired" else f"from the mean of {other}"
    )
    return (
        f"{split}Mean of the completed trials' last values over the seeds, with its 95% interval (Student t, "
        f"from {BCA_FROM} seeds on BCa{cut}) or, below {MIN_FOR_INTERVAL} seeds, the seeds' values. "
        f"Differences are in {name_of(metric)}, {rule.pairing}, {between}. {p}FLOPs are those of training."
    )


def how_decided(sweep: Sweep) -> str:
    """At which level differences were decided, at how many looks, and what their intervals are; '' where none
    is."""
    claims = claims_of(sweep)
    if sweep.is_exploratory or not claims.rule.is_of_arms or len(sweep.arms) < 2:
        return ""
    left = ALPHA - claims.level
    kept = f"; {100 * left:g}% more is kept for extensions" if left > 0 else ""
    said = [f"All comparisons together are decided at a level of {100 * claims.level:g}%{kept}."]
    if len(claims.looks) > 1:
        taken = [event["look"] for event in sweep.events if event["event"] == "look" and not event["stage"]]
        said += [
            f"{len(claims.looks)} looks were planned, at {join([str(look) for look in claims.looks])} seeds, "
            f"and {max(taken, default=0)} taken.",
            "p and interval are repeated ones, which hold whichever look was the last.",
        ]
    said.append(
        "The interval of a difference is at the level at which it was decided, or while it is open at an "
        "equal share for each comparison: it leaves out 0 exactly where the verdict is better or worse."
    )
    if claims.rule.on_diverged == "worst" and any(lost_seeds(sweep).values()):
        said.append(
            "Where seeds diverged or failed, a claim must hold with them left out and with them at the worst "
            "value, and the interval covers both."
        )
    return " ".join(said)
