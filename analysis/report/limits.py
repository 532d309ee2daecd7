"""What the numbers do not say, in sentences. Plain text; the page escapes it."""

from __future__ import annotations

import pandas as pd

from analysis.compare.claims import claims_of, rule_of, seeds_looked_at
from analysis.compare.comparisons import BETTER, EQUIVALENT, NOT_SETTLED, TOO_FEW, WORSE
from analysis.compare.pairing import idle_arms
from analysis.format import few, join, name_of, p_text, si
from analysis.inference.decision import DECIDED
from analysis.inference.significance import seeds_needed, smallest_p
from analysis.report.sentences import seeds_text
from analysis.report.verdicts import answered
from analysis.sweep import OPEN, Sweep, records

SAME_SIZE = 1.05  # arms whose parameters differ by more than this factor differ in size too


def cannot_be_concluded(sweep: Sweep, ranked: pd.DataFrame) -> list[str]:
    """The limits, each with its reason and, where there is one, its remedy."""
    return [
        *_limits_of_the_code(sweep),
        *_limits_of_the_phase(sweep),
        *_limits_of_the_looks(sweep),
        *_limits_of_n(sweep, ranked),
        *_limits_of_the_pairing(sweep),
        *_limits_of_the_missing(sweep, ranked),
        *_limits_of_the_budget(sweep, ranked),
    ]


def _limits_of_the_code(sweep: Sweep) -> list[str]:
    versions = list(dict.fromkeys(sweep.codes))
    if len(versions) < 2:
        return []
    return [
        f"What is due to the arms alone: the code changed between launches ({join(versions)}), so that "
        "trials are of more than one make. Run what matters anew, under another name."
    ]


def _limits_of_the_phase(sweep: Sweep) -> list[str]:
    found = []
    if sweep.is_exploratory:
        found.append(
            "Any difference between arms: the trials shown were chosen, or spared from stopping, on the very "
            "results that are shown, which flatters them, and so no p-value is given. Run the arms of "
            "interest to the end, with `scheduler: {kind: fifo}` or an evidence phase."
        )
    found += _limits_of_the_order(sweep)
    if sweep.test_metric is None:
        found.append(
            "How the arms do on data that took no part in choosing: no test counterpart of "
            f"{name_of(sweep.metric)} was reported, so that the figures are those of the split that ranks."
        )
    search = sweep.space.get("search") or {}
    if sweep.space.get("tune") and not sweep.is_exploratory:
        seeds = len(search.get("seeds") or [0])
        found.append(
            "Whether the order would be the same at each arm's best setting: a claim is about an arm at the "
            f"draw that was chosen for it, on {seeds} search seed{'s' * (seeds != 1)}, and the luck of that "
            "choice is in no interval. More search seeds and draws make it smaller."
        )
    keep = search.get("keep", 1)
    if sweep.space.get("tune") and not sweep.is_exploratory and keep > 1:
        found.append(
            "How an arm does at its single best setting: an arm's value at a seed is the mean of its "
            f"{keep} kept draws, and a seed counts where all of them completed."
        )
    return found


def _limits_of_the_order(sweep: Sweep) -> list[str]:
    """Members that were stopped at a rung where a worse one, which had come before, went on."""
    decisions = sweep.decisions
    found: list[tuple[str, str, str]] = []
    sign = 1.0 if sweep.judged_maximise else -1.0
    for stop in records(decisions[decisions["action"] == "stop"]):
        there = decisions[(decisions["rung"] == stop.rung) & (decisions["action"] == "continue")]
        worse = there[sign * there["value"] < sign * stop.value]
        if (sweep.space.get("scheduler") or {}).get("scope") == "arm":
            arms = worse["member"].str.replace(r"-d\d+$", "", regex=True)
            worse = worse[arms == str(stop.member).rpartition("-d")[0]]
        if len(worse):
            found.append((str(stop.member), join(sorted(set(worse["member"]))), si(stop.rung)))
    if not found:
        return []
    remedy = (
        "Those that come to a rung first have little to be compared with, and go on; `scheduler.kind: fixed` "
        "has no such order."
    )
    if len(found) == 1:
        ((member, others, rung),) = found
        return [
            f"That {member} is worse than {others}: at {rung} it was stopped with the better value. {remedy}"
        ]
    named = few([f"{member} at {rung}" for member, _, rung in found])
    return [
        f"That what was stopped is worse than what went on: {named} had a better value than one that "
        f"had come to the rung before. {remedy}"
    ]


def _limits_of_the_looks(sweep: Sweep) -> list[str]:
    """What no claim rests on, what no look has seen, and what stopping early does to a difference."""
    claims, found = claims_of(sweep), []
    if not claims.carried and not sweep.is_exploratory:
        found.append(f"Any difference between arms, as a claim at 5%: {claims.note}.")
    seen, trials = seeds_looked_at(sweep), sweep.trials[sweep.trials["phase"] == "evidence"]
    done = trials[(trials["status"] == "completed") & trials["arm"].isin(list(seen))]
    beyond = {
        str(arm): sorted({int(seed) for seed in group["seed"]} - seen[str(arm)])
        for arm, group in done.groupby("arm", sort=False)
    }
    named = [f"{arm} ({seeds_text(seeds)})" for arm, seeds in beyond.items() if seeds]
    if named:
        found.append(
            f"What the last completed trials of {few(named)} say: no look has come to these seeds, and no "
            "mean above has them."
        )
    early = [
        row.arm if claims.rule.question == "baseline" else f"{row.arm} from {row.against}"
        for row in claims.recorded
        if row.verdict in (BETTER, WORSE) and row.look < claims.number_of_looks(row.arm, row.against)
    ]
    if early:
        found.append(
            f"How large the difference of {few(early)} is: a comparison that is decided before its last look "
            "stops where luck helps it, and its estimate is on average too large. The interval holds."
        )
    return found


def _limits_of_n(sweep: Sweep, ranked: pd.DataFrame) -> list[str]:
    prefix, rule = "test_" if sweep.test_metric else "", rule_of(sweep)
    found, others = [], ranked[ranked["arm"] != ranked[f"{prefix}against"]]
    other = "the best of the others" if rule.question == "best" else sweep.baseline
    if other == sweep.baseline and len(others) and not ranked.loc[ranked["arm"] == sweep.baseline, "n"].any():
        found.append(f"How far any arm is from the baseline: {sweep.baseline} has no completed trial.")
    if (ranked["n"] == 1).any():
        arms = few(list(ranked.loc[ranked["n"] == 1, "arm"]))
        found.append(f"How much luck is in {arms}: with one seed there is no interval.")
    if not rule.is_of_arms:
        return found + _limits_of_what_was_asked(sweep)
    pairs = others[others[f"{prefix}diff"].notna() & (others[f"{prefix}verdict"] != EQUIVALENT)]
    small = pairs[pairs[f"{prefix}verdict"] == TOO_FEW]
    if len(small):
        family, own = (
            rule.number_of_comparisons(len(sweep.arms)),
            small.sort_values(f"{prefix}n_pairs").iloc[-1],
        )
        there = int(ranked.loc[ranked["arm"] == own[f"{prefix}against"], f"{prefix}n"].max())
        n = int(own[f"{prefix}n_pairs"] if rule.pairing == "paired" else own[f"{prefix}n"])
        seeds = f"{n} {'shared ' if rule.pairing == 'paired' else ''}seed{'s' * (n != 1)}"
        least = p_text(smallest_p(n, rule.test, rule.pairing, None if rule.pairing == "paired" else there))
        found.append(
            f"Whether {few(list(small['arm']))} differ{'s' if len(small) == 1 else ''} from "
            f"{other}: n too small. With {seeds} the {rule.name} cannot give less than p = {least}, "
            f"and {family} comparison{'s are' if family > 1 else ' is'} made; from "
            f"{seeds_needed(family, rule.test, rule.pairing, claims_of(sweep).level)} seeds on it could."
        )
    open_ = pairs[pairs[f"{prefix}verdict"] == NOT_SETTLED]
    if len(open_):
        equal = "" if rule.margin is None else ", nor is it shown to be within the margin"
        found.append(
            f"Whether {few(list(open_['arm']))} differ{'s' if len(open_) == 1 else ''} from "
            f"{other}: the difference is not significant, which does not show that there is none"
            f"{equal}; the interval bounds its size."
        )
    return found


def _limits_of_what_was_asked(sweep: Sweep) -> list[str]:
    """Effects and interactions, or spreads, that are not settled."""
    rows = [] if sweep.is_exploratory else answered(sweep).recorded
    found = [f"{row.arm} from {row.against}" for row in rows if row.verdict not in DECIDED]
    if not found:
        return []
    return [
        f"A difference of {few(found)}: it is not significant, which does not show that there is none; the "
        "interval bounds its size."
    ]


def _limits_of_the_pairing(sweep: Sweep) -> list[str]:
    if sweep.is_exploratory or rule_of(sweep).pairing == "unpaired":
        return []
    idle = idle_arms(sweep, sweep.shown_metric)
    if not idle:
        return []
    return [
        f"More from shared seeds than from any others, against {few(idle)}: there the paired interval is no "
        "narrower than the unpaired one, which stands under the ranking."
    ]


def _limits_of_the_missing(sweep: Sweep, ranked: pd.DataFrame) -> list[str]:
    found = []
    absent = ranked[ranked["n"] == 0]
    if len(absent):
        ends = few([f"{row.arm} (its furthest: {si(row.samples)} samples)" for row in records(absent)])
        found.append(
            f"What {ends} would have reached: no trial of {'them' if len(absent) > 1 else 'it'} completed, "
            "and the last value of a stopped trial is not its final one."
        )
    for _, row in ranked[(ranked["n_diverged"] + ranked["n_failed"] > 0) & (ranked["n"] > 0)].iterrows():
        words = join([f"{row[f'n_{how}']} {how}" for how in ("diverged", "failed") if row[f"n_{how}"]])
        found.append(
            f"How {row['arm']} does on the whole: of its {row['n_trials']} trials {words}, and the mean of "
            "the rest leaves these out."
        )
    waiting = int(sweep.trials["status"].isin(OPEN).sum())
    if waiting:
        found.append(
            f"The final standing: {waiting} planned trials have not run to their end; `--resume` goes on."
        )
    return found


def _limits_of_the_budget(sweep: Sweep, ranked: pd.DataFrame) -> list[str]:
    found, done = [], ranked[ranked["n"] > 0]
    sizes = done["num_params"].dropna()
    if len(sizes) > 1 and sizes.max() > SAME_SIZE * sizes.min():
        found.append(
            f"What is due to the factor alone: the arms also differ in size, from {si(sizes.min())} to "
            f"{si(sizes.max())} parameters."
        )
    costs = done["flops_per_sample" if sweep.train_flops is None else "samples"].dropna()
    if len(costs) > 1 and costs.max() > SAME_SIZE * costs.min():
        ends = f"from {si(costs.min())} to {si(costs.max())}"
        found.append(
            f"Which arm is best for a given compute: at equal samples they differ in cost, {ends} FLOPs a "
            "sample; compare the curves over FLOPs."
            if sweep.train_flops is None
            else f"Which arm is best for a given number of samples: at equal training FLOPs they trained on "
            f"{ends} samples; compare the curves over samples."
        )
    return found
