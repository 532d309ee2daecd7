"""Tables of the evidence behind the ranking, as HTML: both tests, interactions, importances, the ablation
path, arms at their last common samples."""

from __future__ import annotations

import math

import pandas as pd

from analysis.compare.comparisons import Rule
from analysis.compare.pairing import correlation_text, correlations, pairing_text
from analysis.compare.ranking import claim_of
from analysis.explain.ablation_path import ablation_path
from analysis.explain.importance import importances
from analysis.explain.interactions import interaction_estimates, interactions
from analysis.format import Unit, name_of, p_text, si, title_of, unit_of
from analysis.report import page
from analysis.stopping.common_samples import at_common_samples
from analysis.sweep import Sweep

SHARE = Unit(100.0, "%", "", 0)


def tests(sweep: Sweep, ranked: pd.DataFrame) -> str:
    """Every arm's p by each test, unadjusted, what its seeds share with the baseline's, and the difference
    that does not decide: unpaired beside paired. '' where nothing carries claims."""
    if claim_of(sweep) == "exploratory" or len(ranked) < 2:
        return ""
    prefix, metric = "test_" if sweep.test_metric else "", sweep.test_metric or sweep.metric
    rule, unit = Rule.of(sweep), unit_of(metric)
    shown = {
        "sign-flip (paired)": "paired_permutation_p", "t (paired)": "paired_t_p",
        "two-sample permutation": "unpaired_permutation_p", "Welch's t": "unpaired_t_p",
        **({"equivalence (Holm)": "p_equivalent_holm"} if rule.margin else {}),
    }  # fmt: skip
    other = "unpaired" if rule.pairing == "paired" else "paired"
    shared = correlations(sweep, metric).set_index("arm")
    rows = []
    for _, row in ranked[ranked["arm"] != sweep.baseline].iterrows():
        cells = [page.cell(row["arm"]), *(page.cell(p_text(row[prefix + key])) for key in shown.values())]
        cells.append(_correlation(shared.loc[row["arm"]]) if row["arm"] in shared.index else page.cell("–"))
        ends = {"diff": row[f"{prefix}{other}_diff"]} | {
            end: row[f"{prefix}{other}_{end}"] for end in ("low", "high")
        }
        rows.append([*cells, _ends(pd.Series(ends), "diff", unit, sign=True)])
    suffix = f" ({unit.difference})" if unit.difference else ""
    heads = ["arm", *shown, "correlation over seeds", f"{other} difference{suffix}"]
    note = (
        f"p of each test against {sweep.baseline}, not adjusted; the {rule.name} decides (`evidence` in the "
        f"search space). {_margin(rule, unit)} {pairing_text(sweep, metric)}"
    )
    return page.details(
        "Both tests, paired and unpaired",
        page.paragraph(note.rstrip(), "note"),
        page.table(heads, rows, cards=True),
    )


def _margin(rule: Rule, unit: Unit) -> str:
    if not rule.margin:
        return "Equivalence is not tested, as `evidence` names no margin."
    return (
        f"Equivalence: two one-sided t-tests, within ±{unit.text(rule.margin)} {unit.difference}".rstrip()
        + "."
    )


def _correlation(row: pd.Series) -> str:
    low, high = (correlation_text(row[end]) for end in ("low", "high"))
    return page.cell(
        correlation_text(row["correlation"]), f"[{low}, {high}]" if math.isfinite(row["low"]) else ""
    )


def factors(sweep: Sweep) -> str:
    """What of the variance the factors account for, whether they interact, and the way to the best arm."""
    return "\n".join(filter(None, [_interactions(sweep), _importances(sweep), _path(sweep)]))


def _interactions(sweep: Sweep) -> str:
    found = interactions(sweep)
    if claim_of(sweep) == "exploratory" or found.empty:
        return ""
    rows = [
        [
            page.cell(f"{row['factor_a']} × {row['factor_b']}", row["note"]),
            page.cell(f"{row['f']:.3g}" if math.isfinite(row["f"]) else "–"),
            *(page.cell(p_text(row[name])) for name in ("p", "q")),
        ]
        for _, row in found.iterrows()
    ]
    unit = unit_of(sweep.test_metric or sweep.metric)
    suffix = f" ({unit.difference})" if unit.difference else ""
    sizes = [
        [page.cell(f"{row['level_a']} × {row['level_b']}"), _ends(row, "estimate", unit, sign=True)]
        for _, pair in found.iterrows()
        for _, row in interaction_estimates(sweep, pair["factor_a"], pair["factor_b"]).iterrows()
    ]
    note = (
        "F test of a mixed model with seeds as a random intercept; q is p adjusted for the pairs looked at "
        "(Benjamini and Hochberg), for screening. Below it, how much two levels do together beyond what each "
        "does alone, against the baseline's levels, with a 95% interval."
    )
    heads = ["interaction", "F", "p", "q (screening)"]
    return (
        page.paragraph(note, "note")
        + page.table(heads, rows)
        + (page.table(["two levels together", f"beyond each alone{suffix}"], sizes) if sizes else "")
    )


def _importances(sweep: Sweep) -> str:
    found = importances(sweep).dropna(subset=["share"])
    if len(found) < 2:
        return ""
    at = found["samples"].iloc[0]
    when = f"after {si(at)} samples, which all reached" if math.isfinite(at) else "at their end"
    note = (
        f"Share of the variance of {name_of(sweep.metric)} between trials that were not chosen on their "
        f"result, {when}: main effects alone, with a rough 95% interval of resampled trials."
    )
    rows = [
        [page.cell(row["name"]), page.cell(row["kind"]), page.cell(str(row["n"])), _ends(row, "share", SHARE)]
        for _, row in found.iterrows()
    ]
    return page.paragraph(note, "note") + page.table(
        ["importance of", "kind", "trials", "share (%)"], rows, 2
    )


def _path(sweep: Sweep) -> str:
    found = ablation_path(sweep)
    if len(found) < 3:  # one step is the difference that the ranking has
        return ""
    metric = sweep.test_metric or sweep.metric
    unit = unit_of(metric)
    rows = []
    for _, row in found.iterrows():
        missing = f"not run: {row['not_run']}" if row["not_run"] else ""
        cells = [page.cell(row["flipped"] or f"{row['arm']} (baseline)", missing)]
        cells += [page.cell(unit.text(row["mean"])), _ends(row, "gain", unit, sign=True)]
        rows.append([*cells, page.cell(SHARE.text(row["share"]))])
    note = (
        "From the baseline to the best arm, each time by the change that gains the most: this explains, and "
        "claims nothing."
    )
    suffix = f" ({unit.difference})" if unit.difference else ""
    heads = ["change", title_of(metric), f"gain{suffix}", "share of the whole (%)"]
    return page.paragraph(note, "note") + page.table(heads, rows, wrap=0, cards=True)


def common_samples(sweep: Sweep) -> str:
    """Arms of which trials were stopped, where nobody had been stopped yet; '' where none was."""
    found = at_common_samples(sweep)
    if not (found["n_stopped"] > 0).any():
        return ""
    unit = unit_of(sweep.metric)
    rows = []
    for _, row in found.iterrows():
        cells = [page.cell(str(row[name])) for name in ("arm", "n", "n_stopped")]
        cells += [_ends(row, "mean", unit), _ends(row, "diff", unit, sign=True)]
        rows.append([*cells, page.cell(p_text(row["q"]))])
    note = (
        f"All draws after {si(found['samples'].iloc[0])} samples, the last number that every trial reached: "
        "those that were stopped later count up to there. q is adjusted for screening (Benjamini and "
        "Hochberg): what to look at next, no claim."
    )
    suffix = f" ({unit.difference})" if unit.difference else ""
    heads = ["arm", "trials", "stopped later", title_of(sweep.metric), f"difference to baseline{suffix}", "q"]
    return page.paragraph(note, "note") + page.table(heads, rows, cards=True)


def _ends(row: pd.Series, key: str, unit: Unit, sign: bool = False) -> str:
    """A cell of a number with the ends of its interval."""
    names = (f"{key}_low", f"{key}_high") if f"{key}_low" in row else ("low", "high")
    low, high = (unit.text(row[name], sign=sign) for name in names)
    return page.cell(unit.text(row[key], sign=sign), f"[{low}, {high}]" if pd.notna(row[names[0]]) else "")
