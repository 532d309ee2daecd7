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
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from analysis.compare.comparisons import BASELINE, BETTER, EQUIVALENT, WORSE, Rule
from analysis.compare.ranking import OPEN, claim_of, counted_trials, rank_arms, seed_table
from analysis.inference.power import seeds_for_equivalence, seeds_needed_for
from analysis.inference.spread import MIN_DF, upper_sd
from analysis.sweep import Sweep

SETTLED = (BASELINE, BETTER, WORSE, EQUIVALENT)
_BLOCK = re.compile(r"^(?=[^\s#-])", re.MULTILINE)  # a top-level key of a YAML file in block style


@dataclass(frozen=True)
class Question:
    """An arm whose difference to the baseline is not settled: `diff` as seen over `n` seeds, where the
    difference of a trial from one of the baseline's has standard deviation `sd`, and at most `upper`. `seeds`
    in all would settle a difference of this size; None: more than MOST_SEEDS, or nothing is known of its
    size. `as_equivalent`: by showing that it is within the margin, which takes fewer than to show that there
    is one. `to_see`: `upper` is not known yet, and with so many seeds it will be."""

    arm: str
    n: int
    diff: float
    sd: float
    upper: float
    seeds: int | None
    as_equivalent: bool = False
    to_see: bool = False


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


def open_questions(sweep: Sweep) -> list[Question]:
    """The arms of which nothing is settled, in the order of the ranking; all of them where nothing carries
    claims."""
    prefix, metric = ("test_", sweep.test_metric) if sweep.test_metric else ("", sweep.metric)
    table, rule, found = seed_table(sweep, metric), Rule.of(sweep), []
    ranked = rank_arms(sweep)
    for _, row in ranked[~ranked[f"{prefix}verdict"].isin(SETTLED)].iterrows():
        arm, base = table[row["arm"]], table[sweep.baseline]
        paired = rule.pairing == "paired"
        n = int((arm - base).count()) if paired else min(arm.count(), base.count())
        variances = pd.Series([(arm - base).var()] if paired else [arm.var(), base.var()])
        freedom = pd.Series([n - 1] if paired else [arm.count() - 1, base.count() - 1])
        sd = math.sqrt(variances.sum(skipna=False))
        df = variances.sum() ** 2 / (variances**2 / freedom).sum() if sd > 0 else freedom.sum()
        upper, family = upper_sd(sd, df), len(sweep.arms) - 1
        seeds, as_equivalent = _seeds(rule, row[f"{prefix}diff"], upper, family)
        alike = sd == 0 and row[f"{prefix}diff"] == 0  # as where all end at 0%: more seeds tell nothing
        to_see = math.isnan(upper) and math.isfinite(row[f"{prefix}diff"]) and not alike
        if to_see:
            seeds = max(MIN_DF + 1, rule.seeds_needed(family))
        if seeds and claim_of(sweep) == "confirmatory":
            seeds = max(seeds, n + 1)
        found.append(Question(row["arm"], n, row[f"{prefix}diff"], sd, upper, seeds, as_equivalent, to_see))
    return found


def _seeds(rule: Rule, difference: float, sd: float, family: int) -> tuple[int | None, bool]:
    """That settle it the one way or the other, and whether it is by equivalence."""
    differs = seeds_needed_for(difference, sd, family, rule.test, rule.pairing)
    margin = math.nan if rule.margin is None else rule.margin
    alike = seeds_for_equivalence(difference, sd, margin, family, rule.pairing)
    if alike is not None and (differs is None or alike < differs):
        return alike, True
    return differs, False


def next_steps(sweep: Sweep, questions: list[Question]) -> list[Step]:
    """The launches that settle what can be settled, fewest seeds first; those of the same seeds are one.

    `--extend` where the sweep carries claims. A sweep that stopped its arms carries none, however many seeds
    it has: its step is the same space under another name, with nothing stopped. Empty where the sweep is not
    at its end, which comes first, and where it is not in a folder.
    """
    if sweep.folder is None or sweep.trials["status"].isin(OPEN).any():
        return []
    fresh = claim_of(sweep) == "exploratory"
    if fresh and sweep.space.get("tune"):
        return []
    if fresh:
        least = Rule.of(sweep).seeds_needed(len(sweep.arms) - 1)
        wanted = max([least, *(question.seeds or 0 for question in questions)])
        return [_evidence(sweep, wanted)] if questions else []
    by_seeds: dict[int, list[Question]] = {}
    for question in questions:
        if question.seeds:
            by_seeds.setdefault(question.seeds - question.n, []).append(question)
    return [_extension(sweep, more, asked) for more, asked in sorted(by_seeds.items())]


def _extension(sweep: Sweep, more: int, asked: list[Question]) -> Step:
    had = list(sweep.space.get("seeds") or [])
    above = 1 + max([*had, *((sweep.space.get("search") or {}).get("seeds") or [])], default=-1)
    seeds = [*had, *range(above, above + more)]
    file = f"{len(seeds)}_seeds.yaml"
    space = _edited(sweep, {"name": json.dumps(sweep.name), "seeds": str(seeds)})
    arms = tuple(question.arm for question in asked)
    return Step(arms, file, space, _command(sweep, file, "--extend"), *_price(sweep, more))


def _evidence(sweep: Sweep, wanted: int) -> Step:
    """The sweep again with nothing stopped, and fresh seeds: those seen have been looked at."""
    scheduler, above = sweep.space.get("scheduler") or {}, 1 + max(sweep.space.get("seeds") or [-1])
    end = scheduler.get("max_t") if scheduler.get("time_attr", "samples") == "samples" else None
    fifo = "{kind: fifo}" if end is None else f"{{kind: fifo, max_t: {end}}}"
    name, file = f"{sweep.name}-evidence", "evidence.yaml"
    seeds = list(range(above, above + wanted))
    space = _edited(sweep, {"name": json.dumps(name), "scheduler": fifo, "seeds": str(seeds)})
    others = tuple(arm for arm in sweep.arms if arm != sweep.baseline)
    return Step(others, file, space, _command(sweep, file), *_price(sweep, wanted))


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


def _price(sweep: Sweep, seeds: int) -> tuple[int, float]:
    """Trials, and seconds one after another: a seed is one of every arm, at the mean wall time of its
    completed trials (of all arms' where it has none)."""
    done = counted_trials(sweep)
    each = done.groupby("arm")["wall_s"].mean().reindex(sweep.arms).fillna(done["wall_s"].mean())
    kept = int((sweep.space.get("search") or {}).get("keep") or 1) if sweep.space.get("tune") else 1
    return seeds * kept * len(sweep.arms), seeds * kept * float(each.sum(skipna=False))
