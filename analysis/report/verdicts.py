"""verdicts.json: what the sweep claims, for programs. Strict JSON, numbers in the metric's own units."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from analysis.compare.claims import Claims, claims_of
from analysis.compare.ranking import best_set, decided_comparisons, rank_arms
from analysis.explain.asked import asked
from analysis.inference.decision import Comparison
from analysis.sweep import Sweep

FILE = "verdicts.json"
AT_CHOSEN_DRAWS, AS_CONFIGURED = "the arms at the draws chosen for them", "the arms as configured"


def verdicts(sweep: Sweep) -> dict[str, Any]:
    """The content of verdicts.json.

    `about` is what the claims are about. `comparisons` has a row for each arm that is compared: with the
    baseline; under question best with the arm that it is worse than, else with the best of the others.
    `claim` is false where the trials or the rule do not carry one, and `note` says why. `best_set` are the
    arms that may be the best, by all pairs; it is a claim under question best alone. `open` are the arms that
    more seeds may still decide.
    """
    claims, shown = claims_of(sweep), answered(sweep)
    ranked = rank_arms(sweep)
    prefix = "test_" if claims.metric == sweep.test_metric else ""
    means = {str(row["arm"]): float(row[f"{prefix}mean"]) for _, row in ranked.iterrows()}
    compared: Sequence[Comparison | None] = shown.recorded
    if claims.rule.question == "best":
        compared = [shown.of_arm(arm, means, sweep.maximise) for arm in sweep.arms]
    rule = {**asdict(claims.rule), "looks": list(claims.rule.looks), "level": claims.level}
    return {
        "sweep": sweep.name,
        "metric": claims.metric,
        "baseline": sweep.baseline,
        "rule": rule,
        "about": AT_CHOSEN_DRAWS if sweep.space.get("tune") else AS_CONFIGURED,
        "looks": list(claims.looks),
        "comparisons": [_row(row, claims) for row in compared if row is not None],
        "best_set": best_set(sweep, shown),
        "best_set_is_claim": claims.carried and claims.rule.question == "best",
        "open": shown.open if claims.carried else [],
    }


def answered(sweep: Sweep) -> Claims:
    """The sweep's claims with the comparisons that answer its question: those that were recorded; where there
    are none, computed from the values."""
    claims = claims_of(sweep)
    of_arms = claims.rule.is_of_arms or sweep.is_exploratory
    rows = decided_comparisons(sweep, claims) if of_arms else asked(sweep, claims)
    return replace(claims, recorded=tuple(rows))


def _row(row: Comparison, claims: Claims) -> dict[str, Any]:
    notes = [text for text in (row.note, claims.note) if text]
    found = {
        "arm": row.arm,
        "against": row.against,
        "n": len(row.seeds),
        "n_baseline": len(row.seeds_against),
        "seeds": list(row.seeds),
        "seeds_baseline": list(row.seeds_against),
        "diff": row.diff,
        "low": row.low,
        "high": row.high,
        "p": row.p,
        "p_adjusted": row.p_adjusted,
        "p_equivalent": row.p_equivalent,
        "p_equivalent_adjusted": row.p_equivalent_adjusted,
        "look": row.look if claims.recorded and row.look else None,
        "verdict": row.verdict,
        "claim": claims.carried and row.look > 0,
        "note": "; ".join(notes),
    }
    return {name: _strict(value) for name, value in found.items()}


def _strict(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_json(content: Mapping[str, Any]) -> str:
    """As text, without NaN."""
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_verdicts(sweep: Sweep, path: Path) -> None:
    path.write_text(to_json(verdicts(sweep)), encoding="utf-8")
