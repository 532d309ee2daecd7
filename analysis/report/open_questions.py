"""The comparisons that are still open, and for each the launch that would settle it, with its price.

The power is that of the deciding test (analysis.inference.power), the price the measured time of a trial.
Both take the difference that was seen for the true one, and for the spread its upper limit
(analysis.inference.spread), as one of few seeds is mostly too small: a guide to what to run, no promise.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.compare.claims import claims_of, rule_of
from analysis.compare.comparisons import BASELINE, BETTER, EQUIVALENT, WORSE
from analysis.compare.ranking import OPEN, counted_trials, rank_arms, seed_table
from analysis.explain.asked import contrasts_asked
from analysis.inference.contrasts import contrast
from analysis.inference.intervals import ALPHA
from analysis.inference.power import seeds_for_equivalence, seeds_needed_for
from analysis.inference.rule import SMALLEST_LEVEL, Rule
from analysis.inference.significance import seeds_needed
from analysis.inference.spread import MIN_DF, upper_sd
from analysis.report.verdicts import answered
from analysis.sweep import Sweep

Open = tuple[tuple[str, str], float, pd.DataFrame, list[float]]  # (arm, against), difference, values, weights
RESERVE = 0.01  # of a new sweep
SETTLED = (BASELINE, BETTER, WORSE, EQUIVALENT)
_BLOCK = re.compile(r"^(?=[^\s#-])", re.MULTILINE)  # a top-level key of a YAML file in block style


@dataclass(frozen=True)
class Question:
    """A comparison that more seeds may settle.

    `diff` was seen over `n` seeds; the difference of a trial from one of the other arm's has standard
    deviation `sd`, and at most `upper`. `seeds` new ones would settle a difference of this size; None: more
    than MOST_SEEDS, or nothing is known of its size. `as_equivalent`: by showing that it is within the
    margin, which takes fewer than to show a difference. `to_see`: `upper` is not known yet, and with so many
    seeds it will be."""

    arm: str
    against: str
    n: int
    diff: float
    sd: float
    upper: float
    seeds: int | None
    as_equivalent: bool = False
    to_see: bool = False


@dataclass(frozen=True)
class Next:
    """What may still be asked: an extension, within the sweep's 5%, or a new sweep (`fresh`) with its own.
    Both claim from new seeds alone, `family` comparisons together at `level`."""

    fresh: bool
    level: float
    family: int


@dataclass(frozen=True)
class Step:
    """A launch: the search space `file` with the content `space`, and its command. It settles `arms`, makes
    `trials` trials, of `seconds` in all, one after another."""

    arms: tuple[str, ...]
    file: str
    space: str
    command: str
    trials: int
    seconds: float


def next_allowed(sweep: Sweep) -> Next:
    """An extension where the sweep has a reserve for it, else a new sweep: seeds that were seen, of arms that
    were picked by them, carry no further claim."""
    claims = claims_of(sweep)
    number = sum(event["event"] == "stage" for event in sweep.events)
    if claims.recorded and claims.carried and claims.rule.level(number) >= SMALLEST_LEVEL:
        waiting = sum(not row.closed for row in claims.recorded)
        return Next(False, claims.rule.level(number), waiting)
    family = claims.rule.number_of_comparisons(len(sweep.arms))
    if not claims.rule.is_of_arms:
        family = len(contrasts_asked(sweep, claims)[1])
    return Next(True, ALPHA - max(claims.rule.reserve, RESERVE), family)


def open_questions(sweep: Sweep) -> list[Question]:
    """The comparisons that are not settled, in the order of the ranking; all of them where nothing carries
    claims. Those that were stopped for futility are not asked again."""
    rule, allowed, found = rule_of(sweep).deciding, next_allowed(sweep), []
    for (arm, against), diff, values, weights in _of_arms(sweep) if rule.is_of_arms else _asked_once(sweep):
        n, sd, df = _spread(values, weights, rule)
        upper = upper_sd(sd, df)
        seeds, as_equivalent = _seeds(rule, diff, upper, allowed)
        alike = sd == 0 and diff == 0  # as where all end at 0%: more seeds tell nothing
        to_see = math.isnan(upper) and math.isfinite(diff) and not alike
        if to_see:
            seeds = max(MIN_DF + 1, seeds_needed(allowed.family, rule.test, rule.pairing, allowed.level))
        found.append(Question(arm, against, n, diff, sd, upper, seeds, as_equivalent, to_see))
    return found


def _of_arms(sweep: Sweep) -> Iterator[Open]:
    claims = claims_of(sweep)
    values, prefix = seed_table(sweep, claims.metric), "test_" if claims.metric == sweep.test_metric else ""
    for _, row in rank_arms(sweep).iterrows():
        arm, against = str(row["arm"]), str(row[f"{prefix}against"])
        is_settled = row[f"{prefix}verdict"] in SETTLED or arm == against
        if not is_settled and (not claims.recorded or arm in claims.open):
            both = values[[arm, against]]
            yield (arm, against), float(row[f"{prefix}diff"]), both, [1.0, -1.0]


def _asked_once(sweep: Sweep) -> Iterator[Open]:
    """Effects and interactions, or spreads."""
    values, weights = contrasts_asked(sweep, claims_of(sweep))
    settled = {row.arm_and_against for row in answered(sweep).recorded if row.closed}
    for key, each in weights.items():
        if key not in settled:
            theirs, signs = values[[*each]], [*each.values()]
            yield key, contrast(theirs, signs, rule_of(sweep).deciding.pairing).value, theirs, signs


def _spread(values: pd.DataFrame, weights: list[float], rule: Rule) -> tuple[int, float, float]:
    """Of a contrast the seeds behind it, and the SD of its value at one seed with its degrees of freedom.

    `values` [seeds, arms] is NaN where a value does not count.
    """
    if rule.pairing == "paired":
        values, weights = values.dropna().mul(weights).sum(axis=1).to_frame(), [1.0]
    counts, parts = values.count(), np.square(weights) * values.var()
    sd, freedom = math.sqrt(parts.sum(skipna=False)), counts - 1
    df = parts.sum() ** 2 / (parts**2 / freedom).sum() if sd > 0 else freedom.sum()
    return int(counts.min()), sd, float(df)


def _seeds(rule: Rule, difference: float, sd: float, allowed: Next) -> tuple[int | None, bool]:
    """New ones that settle it the one way or the other, and whether it is by equivalence."""
    kind, level = (allowed.family, rule.test, rule.pairing), allowed.level
    differs = seeds_needed_for(difference, sd, *kind, alpha=level)
    margin = math.nan if rule.margin is None else rule.margin
    alike = seeds_for_equivalence(difference, sd, margin, allowed.family, rule.pairing, alpha=level)
    if alike is not None and (differs is None or alike < differs):
        return alike, True
    return differs, False


def next_steps(sweep: Sweep, questions: list[Question]) -> list[Step]:
    """The launches that settle what can be settled, fewest seeds first; those of the same seeds are one.

    `--extend` where the sweep keeps a reserve for it, else a new sweep on fresh seeds. Empty where the sweep
    is not at its end, which comes first, and where it is not in a folder.
    """
    if sweep.folder is None or sweep.trials["status"].isin(OPEN).any():
        return []
    if sweep.is_exploratory and sweep.space.get("tune"):
        return []
    if next_allowed(sweep).fresh:
        rule, allowed = rule_of(sweep).deciding, next_allowed(sweep)
        least = seeds_needed(allowed.family, rule.test, rule.pairing, allowed.level)
        wanted = max([least, *(question.seeds or 0 for question in questions)])
        return [_new_sweep(sweep, wanted)] if any(question.seeds for question in questions) else []
    by_seeds: dict[int, list[Question]] = {}
    for question in questions:
        if question.seeds:
            by_seeds.setdefault(question.seeds, []).append(question)
    return [_extension(sweep, more, asked) for more, asked in sorted(by_seeds.items())]


def _extension(sweep: Sweep, more: int, asked: list[Question]) -> Step:
    had = list(sweep.space.get("seeds") or [])
    seeds = [*had, *_unused(sweep, more)]
    file = f"{len(seeds)}_seeds.yaml"
    space = _edited(sweep, {"name": json.dumps(sweep.name), "seeds": str(seeds)})
    arms = tuple(question.arm for question in asked)
    running = [*claims_of(sweep).open, *(question.against for question in asked)]
    return Step(arms, file, space, _command(sweep, file, "--extend"), *_price(sweep, more, running))


def _unused(sweep: Sweep, number: int) -> list[int]:
    """Seeds that no trial of the sweep had."""
    above = 1 + max(sweep.trials["seed"].dropna().astype(int), default=-1)
    return list(range(above, above + number))


def _new_sweep(sweep: Sweep, wanted: int) -> Step:
    """The sweep again on fresh seeds, as those seen have been looked at; without a search with nothing
    stopped, else with the search's trials reused."""
    scheduler, tuned = sweep.space.get("scheduler") or {}, bool(sweep.space.get("tune"))
    end = scheduler.get("max_t") if scheduler.get("time_attr", "samples") == "samples" else None
    fifo = "{kind: fifo}" if end is None else f"{{kind: fifo, max_t: {end}}}"
    name, file = f"{sweep.name}-evidence", "evidence.yaml"
    changes = {
        "name": json.dumps(name),
        "seeds": str(_unused(sweep, wanted)),
        "evidence": _evidence_now(sweep),
    }
    space = _edited(sweep, changes if tuned else {**changes, "scheduler": fifo})
    others = tuple(arm for arm in sweep.arms if arm != sweep.baseline)
    command = _command(sweep, file, *(["--reuse"] if tuned else []))
    return Step(others, file, space, command, *_price(sweep, wanted, sweep.arms))


def _evidence_now(sweep: Sweep) -> str:
    """`evidence` of a new sweep: what was asked, with the looks and seeds left to `auto`."""
    given = {key: value for key, value in (sweep.space.get("evidence") or {}).items() if value is not None}
    return json.dumps({key: value for key, value in given.items() if key not in ("looks", "baseline_seeds")})


def _edited(sweep: Sweep, changes: Mapping[str, str]) -> str:
    """sweep.yaml without what it came to, and with other values at some top-level keys. Edited as text: what
    it says is the launcher's to read."""
    assert sweep.folder is not None
    blocks = _BLOCK.split((sweep.folder / "sweep.yaml").read_text(encoding="utf-8"))
    dropped = {"resolved", *changes}
    kept = [block for block in blocks if block.partition(":")[0].strip("'\"") not in dropped]
    return "".join(f"{key}: {value}\n" for key, value in changes.items()) + "".join(kept)


def _command(sweep: Sweep, file: str, *options: str) -> str:
    assert sweep.folder is not None
    folder = sweep.folder.parent.as_posix()
    words = ["python", "run_sweep.py", (sweep.folder / "report" / file).as_posix(), *options]
    return shlex.join(words if folder == "results" else [*words, "--storage", folder])


def _price(sweep: Sweep, seeds: int, arms: Iterable[str]) -> tuple[int, float]:
    """Trials, and seconds one after another: a seed is one of each of these arms, at the mean wall time of
    its completed trials (of all arms' where it has none)."""
    done, running = counted_trials(sweep), list(dict.fromkeys(arms))
    each = done.groupby("arm")["wall_s"].mean().reindex(running).fillna(done["wall_s"].mean())
    kept = int((sweep.space.get("search") or {}).get("keep") or 1) if sweep.space.get("tune") else 1
    return seeds * kept * len(running), seeds * kept * float(each.sum(skipna=False))
