"""What the numbers say, in sentences. Plain text; the page escapes it."""

from __future__ import annotations

import pandas as pd

from analysis.compare.claims import claims_of, rule_of
from analysis.compare.comparisons import BETTER, EQUIVALENT, TOO_FEW, WORSE
from analysis.compare.ranking import (
    best_set,
    winners_mean,
)
from analysis.format import Unit, few, join, name_of, p_words, si
from analysis.inference.decision import DECIDED
from analysis.report.verdicts import answered
from analysis.sweep import Sweep


def question(sweep: Sweep) -> str:
    """What the sweep asks, in a sentence: the question of its rule."""
    goal = "highest" if sweep.maximise else "lowest"
    metric = name_of(sweep.shown_metric)
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
    if sweep.train_flops is not None:
        horizon = f" for {si(sweep.train_flops)} training FLOPs"
    stopping = "none stopped early"
    if kind != "fifo":
        scope = "its own draws" if scheduler.get("scope") == "arm" else "all others"
        judged = name_of(str(scheduler.get("metric") or sweep.metric))
        stopping = f"{kind} stops the weak early, each judged against {scope} on {judged}"
    if space.get("tune"):
        search = space.get("search") or {}
        draws, kept = search.get("draws_per_arm", "several"), search.get("keep", 1)
        best = "draw" if kept == 1 else f"{kept} draws"
        return (
            f"Each arm is tuned over {join([f'`{name}`' for name in space['tune']])} with {draws} draws "
            f"({search.get('algorithm', 'sobol')}; {stopping}); its best {best} then trained anew{horizon} "
            f"on {seeds}, none stopped early. Only these trials carry claims. The baseline is "
            f"{sweep.baseline}."
        )
    return f"Every arm trains{horizon} on {seeds}; {stopping}. The baseline is {sweep.baseline}."


def headline(sweep: Sweep, ranked: pd.DataFrame) -> str:
    """The answer in one line, without numbers: the arms by verdict."""
    first, claims = f"{ranked.iloc[0]['arm']} ranks first", claims_of(sweep)
    if len(ranked) == 1:
        return f"{first}: it is the only arm."
    if not claims.carried:
        return f"{first}. No claim: {'exploratory' if sweep.is_exploratory else claims.note}."
    if claims.rule.question == "best":
        return _best_set(sweep, ranked, is_brief=True)
    rows = [(row.arm, row.against, row.verdict) for row in answered(sweep).recorded]
    if claims.rule.question == "baseline":  # in the order of the ranking
        key = "test_verdict" if sweep.test_metric else "verdict"
        others = ranked[ranked["arm"] != sweep.baseline]
        rows = [(arm, sweep.baseline, said) for arm, said in zip(others["arm"], others[key], strict=True)]
    found = []
    for said, than in ((BETTER, "than"), (WORSE, "than"), (EQUIVALENT, "to")):
        mine = [(arm, against) for arm, against, verdict in rows if verdict == said]
        if len({against for _, against in mine}) == 1:
            found.append(f"{said.capitalize()} {than} {mine[0][1]}: {few([arm for arm, _ in mine])}.")
        elif mine:
            named = [f"{arm} ({than} {_without_factor(against)})" for arm, against in mine]
            found.append(f"{said.capitalize()}: {few(named)}.")
    if unsettled := [arm for arm, _, verdict in rows if verdict not in DECIDED]:
        found.append(f"Not settled: {few(unsettled)}.")
    return " ".join(found)


def _without_factor(level: str) -> str:
    """ "model.num_layers=2" -> "2": the other side of an effect has the factor's name."""
    return level.rpartition("=")[2]


def verdict(sweep: Sweep, ranked: pd.DataFrame) -> str:
    """The answer to the sweep's question, in a few sentences."""
    best, prefix = ranked.iloc[0], "test_" if sweep.test_metric else ""
    unit, metric = sweep.unit(sweep.metric), sweep.shown_metric
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
    note = "" if claims.carried else f" No claim: {claims.note}."
    about = (
        " This is about the arms at the draws that were chosen for them." if sweep.space.get("tune") else ""
    )
    if not claims.rule.is_of_arms:  # which arm ranks first was not asked
        return f"{answer}{about}{note}"
    return f"{head}.{_corrected(sweep, best[f'{prefix}mean'], metric, unit)} {answer}{about}{note}"


def _corrected(sweep: Sweep, mean: float, metric: str, unit: Unit) -> str:
    """The winner's mean, corrected for having been picked as the highest; '' where that changes no digit."""
    found = winners_mean(sweep, metric)
    if found is None or len(sweep.arms) < 3 or unit.text(found) == unit.text(mean):
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
    family = claims.rule.number_of_comparisons(len(sweep.arms))
    if claims.recorded and stages:
        family = len(stages[0]["comparisons"])
    over = f"over {family} comparison{'s' * (family != 1)}"
    if claims.rule.margin is None:
        return f"Holm-adjusted {over}"
    return f"adjusted {over}, of which each is tested for equivalence too (Shaffer)"


def _best_set(sweep: Sweep, ranked: pd.DataFrame, is_brief: bool = False) -> str:
    """Under question best: the arms that may be the best; in brief without the others."""
    claims = answered(sweep)
    arms = [arm for arm in ranked["arm"] if arm in claims.best_set]
    out = [arm for arm in ranked["arm"] if arm not in claims.best_set]
    if not claims.carried:
        return ""
    if not out:
        return "No arm is shown to be worse than another one: each may be the best."
    said = f"{arms[0]} is the best" if len(arms) == 1 else f"The best is one of {join(arms)}"
    others = "" if is_brief else f": each other arm ({few(out)}) is worse than some arm"
    return f"{said}, with 95% confidence{others}."


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
        f"{row.arm} {unit.text(row.diff, sign=True)} {unit.difference}".rstrip()
        + f" against {row.against} ({row.verdict})"
        for row in settled
    ]
    return f"{asked}, settled: {few(named)}."


def _margin(sweep: Sweep, unit: Unit) -> str:
    return f"±{unit.text(rule_of(sweep).margin or 0.0)} {unit.difference}".rstrip()


def _decided(sweep: Sweep, row: pd.Series, prefix: str, unit: Unit) -> str:
    """ "+8.8 [+3.4, +14.2] points, p = 0.012, look 2 of 5"."""
    ends = (row[f"{prefix}diff_low"], row[f"{prefix}diff_high"])
    text = f"{unit.with_ends(row[f'{prefix}diff'], *ends, sign=True)} {unit.difference}".rstrip()
    equivalent = row[f"{prefix}verdict"] == EQUIVALENT
    p = row[f"{prefix}p_equivalent_adjusted" if equivalent else f"{prefix}p_adjusted"]
    looks = claims_of(sweep).number_of_looks(row["arm"], row[f"{prefix}against"])
    look = f", look {row[f'{prefix}look']} of {looks}" if looks > 1 else ""
    return f"{text}, {p_words(p)}{look}"


def seeds_text(seeds: list[int]) -> str:
    """[1, 2, 3, 4] -> "seeds 1 to 4"; [0, 5] -> "seeds 0 and 5"."""
    seeds = sorted(seeds)
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' * (len(seeds) != 1)} {join([str(seed) for seed in seeds])}"
