"""What the numbers say, and what they do not, in sentences. Plain text; the page escapes it."""

from __future__ import annotations

import pandas as pd

from analysis.compare.claims import claims_of, rule_of, seeds_looked_at
from analysis.compare.comparisons import BETTER, EQUIVALENT, NOT_SETTLED, TOO_FEW, WORSE
from analysis.compare.pairing import idle_arms
from analysis.compare.ranking import (
    OPEN,
    best_set,
    claim_of,
    number_of_comparisons,
    winners_mean,
)
from analysis.format import Unit, few, join, name_of, p_text, p_words, si
from analysis.inference.significance import seeds_needed, smallest_p
from analysis.report.verdicts import answered
from analysis.sweep import Sweep, records

SAME_SIZE = 1.05  # arms whose parameters differ by more than this factor differ in size too


def question(sweep: Sweep) -> str:
    """What the sweep asks, in a sentence: the question of its rule."""
    goal, metric = "highest" if sweep.maximise else "lowest", name_of(sweep.metric)
    if len(sweep.arms) == 1:
        return f"How well does {sweep.arms[0]} do on {metric}?"
    varied = join([f"`{factor}`" for factor in sweep.factors])
    arms = f"{len(sweep.arms)} arms ({varied} varied)"
    return {
        "baseline": f"Which of {arms} differ from {sweep.baseline} in {metric}?",
        "best": f"Which of {arms} reaches the {goal} {metric}?",
        "effects": f"What does each of {varied} change in {metric}?",
        "spread": f"Which of {arms} differ from {sweep.baseline} in the spread of {metric} over seeds?",
    }[rule_of(sweep).question]


def design(sweep: Sweep) -> str:
    """How the sweep answers it, in a sentence or two."""
    space, scheduler = sweep.space, sweep.space.get("scheduler") or {}
    kind, over = scheduler.get("kind", "fifo"), sweep.resolved.get("horizon", scheduler.get("max_t"))
    seeds = seeds_text(space.get("seeds") or [])
    horizon = f" for {si(float(over))} {scheduler.get('time_attr', 'samples')}" if over else ""
    stopping = "none stopped early"
    if kind != "fifo":
        scope = "its own draws" if scheduler.get("scope") == "arm" else "all others"
        judged = name_of(str(scheduler.get("metric") or sweep.metric))
        stopping = f"{kind} stops the weak early, each judged against {scope} on {judged}"
    if space.get("tune"):
        search = space.get("search") or {}
        draws, kept = search.get("draws_per_arm", "several"), search.get("keep", 1)
        return (
            f"Each arm is tuned over {join([f'`{name}`' for name in space['tune']])} with {draws} draws "
            f"({search.get('algorithm', 'sobol')}; {stopping}); its best {kept} then trained anew{horizon} "
            f"on {seeds}, none stopped early. Only these trials carry claims. The baseline is "
            f"{sweep.baseline}."
        )
    return f"Every arm trains{horizon} on {seeds}; {stopping}. The baseline is {sweep.baseline}."


def verdict(sweep: Sweep, ranked: pd.DataFrame) -> str:
    """The answer to the sweep's question, in a few sentences."""
    best, prefix = ranked.iloc[0], "test_" if sweep.test_metric else ""
    unit, metric = sweep.unit(sweep.metric), sweep.test_metric or sweep.metric
    n = int(best[f"{prefix}n"])
    head = (
        f"{best['arm']} ranks first, with {unit.text(best[f'{prefix}mean'])}{unit.suffix} {name_of(metric)} "
        f"over {n} seed{'s' * (n != 1)}"
    )
    ties = ranked.loc[(ranked["mean"] == best["mean"]) & (ranked["arm"] != best["arm"]), "arm"]
    if len(ties):
        head += f", tied on {name_of(sweep.metric)} with {join(list(ties))}"
    if best["arm"] == sweep.baseline and len(ranked) > 1:
        head += " (it is the baseline)"
    if best["claim"] != "confirmatory":
        gap = best[f"{prefix}diff"]
        if best["arm"] != sweep.baseline and pd.notna(gap):
            head += f", {unit.text(gap, sign=True)} {unit.difference} from {sweep.baseline}"
        return f"{head}. This is exploratory: it may guide the next sweep, it proves nothing."
    claims = claims_of(sweep)
    answers = {"best": _best_set, "baseline": _against_baseline}
    answer = answers.get(claims.rule.question, _on_effects)(sweep, ranked)
    shrunk = _corrected(sweep, best, metric, unit)
    note = "" if claims.carried else f" No claim: {claims.note}."
    about = (
        " This is about the arms at the draws that were chosen for them." if sweep.space.get("tune") else ""
    )
    return f"{head}.{shrunk} {answer}{about}{note}"


def _corrected(sweep: Sweep, best: pd.Series, metric: str, unit: Unit) -> str:
    """The winner's mean, corrected for having been picked as the highest."""
    found = winners_mean(sweep, metric)
    if found is None or len(sweep.arms) < 3:
        return ""
    return (
        f" Picking the best of {len(sweep.arms)} flatters it: corrected for that, its mean is "
        f"{unit.text(found)}{unit.suffix}."
    )


def by_all_pairs(sweep: Sweep) -> str:
    """Beside the question of the baseline: the arms that may be the best; '' under another question."""
    claims = claims_of(sweep)
    arms = best_set(sweep, claims) if claims.rule.question == "baseline" and len(sweep.arms) > 2 else []
    if not arms:
        return ""
    if len(arms) == len(sweep.arms):
        return "By all pairs (exploratory) each arm may be the best."
    if len(arms) == 1:
        return f"By all pairs (exploratory) {arms[0]} is the best."
    return f"By all pairs (exploratory) the arms that may be the best: {join(arms)}."


def adjustment(sweep: Sweep) -> str:
    """How p are adjusted, and over how many comparisons: "Holm-adjusted over 3 comparisons"."""
    claims, stages = claims_of(sweep), [event for event in sweep.events if event["event"] == "stage"]
    family = number_of_comparisons(sweep, claims.rule)
    if claims.recorded and stages:
        family = len(stages[0]["comparisons"])
    over = f"over {family} comparison{'s' * (family != 1)}"
    if claims.rule.margin is None:
        return f"Holm-adjusted {over}"
    return f"adjusted {over}, of which each is tested for equivalence too (Shaffer)"


def _best_set(sweep: Sweep, ranked: pd.DataFrame) -> str:
    """Under question best: the arms that may be the best."""
    claims = answered(sweep)
    arms, out = claims.best_set, [arm for arm in sweep.arms if arm not in claims.best_set]
    if not claims.carried:
        return ""
    if not out:
        return "No arm is shown to be worse than another one: each may be the best."
    said = f"{arms[0]} is the best" if len(arms) == 1 else f"The best is one of {join(arms)}"
    return f"{said}, with 95% confidence: each other arm ({few(out)}) is worse than some arm."


def _against_baseline(sweep: Sweep, ranked: pd.DataFrame) -> str:
    """The arms by verdict, each with its difference from the baseline."""
    prefix, unit = "test_" if sweep.test_metric else "", sweep.unit(sweep.metric)
    others = ranked[ranked["arm"] != sweep.baseline]
    if others.empty:
        return ""
    found = []
    for kind, said in ((BETTER, "better than"), (WORSE, "worse than"), (EQUIVALENT, "equivalent to")):
        rows = others[others[f"{prefix}verdict"] == kind]
        if len(rows):
            named = [f"{row['arm']} ({_decided(sweep, row, prefix, unit)})" for _, row in rows.iterrows()]
            within = f" within {_margin(sweep, unit)}" if kind == EQUIVALENT else ""
            found.append(f"{said} {sweep.baseline}{within}: {few(named)}")
    unsettled = others[~others[f"{prefix}verdict"].isin((BETTER, WORSE, EQUIVALENT))]
    if len(unsettled):
        named = [
            f"{row['arm']}{' (too few seeds)' if row[f'{prefix}verdict'] == TOO_FEW else ''}"
            for _, row in unsettled.iterrows()
        ]
        found.append(f"not settled: {few(named)}")
    return f"By the {others.iloc[0]['decided_by']}, {adjustment(sweep)}: {'; '.join(found)}."


def _on_effects(sweep: Sweep, ranked: pd.DataFrame) -> str:
    """Under the questions effects and spread, which are not of the arms' means."""
    claims, unit = answered(sweep), sweep.unit(sweep.metric)
    settled = [row for row in claims.recorded if row.verdict in (BETTER, WORSE, EQUIVALENT)]
    asked = f"Asked for {claims.rule.question}, {len(claims.recorded)} comparisons in all"
    if not settled:
        return f"{asked}: none is settled."
    named = [
        f"{row.arm} – {row.against} {unit.text(row.diff, sign=True)} {unit.difference}".rstrip()
        + f" ({row.verdict})"
        for row in settled
    ]
    return f"{asked}, settled: {few(named)}."


def _margin(sweep: Sweep, unit: Unit) -> str:
    return f"±{unit.text(rule_of(sweep).margin or 0.0)} {unit.difference}".rstrip()


def _decided(sweep: Sweep, row: pd.Series, prefix: str, unit: Unit) -> str:
    """ "+8.8 [+3.4, +14.2] points, p = 0.012, look 2 of 5"."""
    text = f"{_span(row, f'{prefix}diff', unit, True)} {unit.difference}".rstrip()
    equivalent = row[f"{prefix}verdict"] == EQUIVALENT
    p = row[f"{prefix}p_equivalent_adjusted" if equivalent else f"{prefix}p_adjusted"]
    looks = claims_of(sweep).number_of_looks(row["arm"], row[f"{prefix}against"])
    look = f", look {row[f'{prefix}look']} of {looks}" if looks > 1 else ""
    return f"{text}, {p_words(p)}{look}"


def cannot_be_concluded(sweep: Sweep, ranked: pd.DataFrame) -> list[str]:
    """The limits, each with its reason and, where there is one, its remedy."""
    return [
        *_limits_of_the_code(sweep),
        *_limits_of_the_phase(sweep),
        *_limits_of_the_looks(sweep),
        *_limits_of_n(sweep, ranked),
        *_limits_of_the_pairing(sweep),
        *_limits_of_the_missing(sweep, ranked),
        *_limits_of_the_budget(ranked),
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
    if claim_of(sweep) == "exploratory":
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
    if sweep.space.get("tune") and claim_of(sweep) == "confirmatory":
        seeds = len(search.get("seeds") or [0])
        found.append(
            "Whether the order would be the same at each arm's best setting: a claim is about an arm at the "
            f"draw that was chosen for it, on {seeds} search seed{'s' * (seeds != 1)}, and the luck of that "
            "choice is in no interval. More search seeds and draws make it smaller."
        )
    keep = search.get("keep", 1)
    if sweep.space.get("tune") and claim_of(sweep) == "confirmatory" and keep > 1:
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
    pairs = others[others[f"{prefix}diff"].notna() & (others[f"{prefix}verdict"] != EQUIVALENT)]
    if not rule.is_of_arms:
        return found
    small = pairs[pairs[f"{prefix}verdict"] == TOO_FEW]
    if len(small):
        family, own = number_of_comparisons(sweep, rule), small.sort_values(f"{prefix}n_pairs").iloc[-1]
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


def _limits_of_the_pairing(sweep: Sweep) -> list[str]:
    if claim_of(sweep) == "exploratory" or rule_of(sweep).pairing == "unpaired":
        return []
    idle = idle_arms(sweep, sweep.test_metric or sweep.metric)
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


def _limits_of_the_budget(ranked: pd.DataFrame) -> list[str]:
    found, done = [], ranked[ranked["n"] > 0]
    sizes = done["num_params"].dropna()
    if len(sizes) > 1 and sizes.max() > SAME_SIZE * sizes.min():
        found.append(
            f"What is due to the factor alone: the arms also differ in size, from {si(sizes.min())} to "
            f"{si(sizes.max())} parameters."
        )
    costs = done["flops_per_sample"].dropna()
    if len(costs) > 1 and costs.max() > SAME_SIZE * costs.min():
        found.append(
            "Which arm is best for a given compute: at equal samples they differ in cost, from "
            f"{si(costs.min())} to {si(costs.max())} FLOPs a sample; compare the curves over FLOPs."
        )
    return found


def _span(row: pd.Series, name: str, unit: Unit, claims: bool) -> str:
    """A difference; with its interval only where it may be taken for one."""
    middle, low, high = (unit.text(row[key], sign=True) for key in (name, f"{name}_low", f"{name}_high"))
    return middle if not claims or pd.isna(row[f"{name}_low"]) else f"{middle} [{low}, {high}]"


def seeds_text(seeds: list[int]) -> str:
    """[1, 2, 3, 4] -> "seeds 1 to 4"; [0, 5] -> "seeds 0 and 5"."""
    seeds = sorted(seeds)
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' * (len(seeds) != 1)} {join([str(seed) for seed in seeds])}"
