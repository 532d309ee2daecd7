"""Do the claims, intervals and costs of evidence keep what is promised? `python -m benchmarks.coverage`

Made-up sweeps whose truth is known, decided by the project's own rules (`benchmarks.families`,
`benchmarks.fixed_tests`). The same --seed and --sweeps give the same tables.

    false_claims  share of sweeps without any difference in which one is claimed, from the first look to the
                  last of three extensions, each of new seeds of what is still open
    at_margin     the same where arms are exactly the margin away and others not at all: equivalence of an
                  arm at the margin, a difference of one that has none, or a wrong sign
    not_normal    as false_claims, where values are bounded, collapse or diverge
    costs         seeds that are run, in % of the fixed design's; and power: of the arms whose difference is 2
                  or more, the share that is claimed
    anytime       false claims, costs and power of an e-process that looks at every pair; extensions go on
                  with the plan's pairs
    best_mean     the mean of the best of equal arms, minus the truth, in SD, before and after correction
    intervals     share of the intervals after the last look that hold the true difference
    controller    sweeps in which the project's controller comes to the same verdicts after the same trials
    coverage, fixed_false, fixed_power   see benchmarks.fixed_tests
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.inference.many import CODES
from analysis.inference.selection import corrected_best
from analysis.inference.sequential import FIRST
from analysis.inference.significance import Pairing
from benchmarks import fixed_tests
from benchmarks.by_controller import make_evidence_plan, run_by_controller
from benchmarks.coverage_tables import markdown
from benchmarks.designs import SEEDS, Design
from benchmarks.families import Found, Values, decide_many, decide_one, decide_open
from benchmarks.options import parse
from benchmarks.worlds import MEASURED, World, spreads

Row = dict[str, Any]

LOOKS = ((), (3, 4), (3, 4, 5), (3, 4, 5, 6, 8))
ARMS = (4, 6, 10)
EXTENSIONS = 3
EVERY_PAIR = Design("paired", tuple(range(FIRST, SEEDS + 1)), anytime=True)
PAIRINGS: tuple[Pairing, ...] = ("unpaired", "paired")
CHUNK = 10_000  # sweeps at a time
TOO_HIGH, AGAIN = (
    0.053,
    4,
)  # with a larger share of false claims a cell is drawn again, with so many times more
SD, EFFECT, MATTERS = 1.3, 2.5, 2.0  # of the cost tables, in points


@dataclass(frozen=True)
class Played:
    """Sweeps from the first look to the last extension. `verdicts` [sweeps, family] are the last ones;
    `plan` is what the plan itself came to; `effects` [sweeps, family] and `values` (of the plan) are true."""

    effects: np.ndarray
    values: Values
    plan: Found
    verdicts: np.ndarray


def play(world: World, design: Design, sweeps: int, rng: np.random.Generator, extensions: int = 0) -> Played:
    effects, rule, seeds = world.true_effects(rng, sweeps), design.rule, design.seeds
    values = world.draw(rng, effects, seeds, design.more(seeds))
    plan = decide_many(values, rule, design.looks or [seeds], rule.level(0))
    more = (world.draw(rng, effects, SEEDS, design.more(SEEDS)) for _ in range(extensions))
    return Played(effects, values, plan, verdicts_after(design, values, plan, more))


def verdicts_after(design: Design, values: Values, plan: Found, more: Iterable[Values]) -> np.ndarray:
    """The verdicts [sweeps, family] after extensions, each by the new values of its seeds. `values` are the
    plan's, with which an e-process goes on."""
    rule, seen, verdicts, is_open = design.rule, values, plan.verdicts.copy(), plan.open
    for number, new in enumerate(more, start=1):
        if design.anytime:
            before, seen = seen.arms.shape[1], seen.followed_by(new)
            looks = range(before + 1, seen.arms.shape[1] + 1)
            found = decide_open(seen, is_open, rule, rule.level(0), looks)
        else:
            found = decide_open(new, is_open, rule, rule.level(number))
        verdicts, is_open = verdicts + found, is_open & (found == 0)
    return verdicts


def wrong(verdicts: np.ndarray, effects: np.ndarray, margin: float | None) -> tuple[np.ndarray, np.ndarray]:
    """[sweeps, family]: which claims are false, and which of these have the wrong sign."""
    claims_sign = np.abs(verdicts) == 1
    wrong_sign = claims_sign & (verdicts * effects < 0)
    is_false = wrong_sign | (claims_sign & (effects == 0))
    if margin is not None:
        is_false |= (verdicts == CODES["equivalent"]) & (np.abs(effects) >= margin)
    return is_false, wrong_sign


# False claims


def false_claims(world: World, design: Design, sweeps: int, seed: Sequence[int]) -> Row:
    """A row of one of the first three tables."""

    def shares(sweeps: int, number: int) -> tuple[float, float, float]:
        found, done = np.zeros(3), 0
        rng = np.random.default_rng([*seed, number])
        while done < sweeps:
            played = play(world, design, min(CHUNK, sweeps - done), rng, EXTENSIONS)
            is_false, sign = wrong(played.verdicts, played.effects, design.margin)
            in_plan, _ = wrong(played.plan.verdicts, played.effects, design.margin)
            found += [each.any(axis=1).sum() for each in (is_false, in_plan, sign)]
            done += len(played.effects)
        false, in_plan, sign = (float(each) / sweeps for each in found)
        return false, in_plan, sign

    false, in_plan, sign = shares(sweeps, 0)
    if world.kind == "normal" and false > TOO_HIGH:
        sweeps *= AGAIN
        false, in_plan, sign = shares(sweeps, 1)
    return {
        "arms": len(world.sds), "world": world.name, "correlation": world.correlation, **design.keys,
        "false": round(false, 5), "false_in_plan": round(in_plan, 5), "wrong_sign": round(sign, 5),
        "of": sweeps,
    }  # fmt: skip


def pairings(arms: int) -> Iterator[tuple[Pairing, bool]]:
    """Each pairing, and whether the baseline gets more seeds."""
    yield from ((pairing, False) for pairing in PAIRINGS)
    if arms == max(ARMS):
        yield "unpaired", True


def null_rows(sweeps: int, seed: int) -> Iterator[Row]:
    worlds = [
        World(name, sds, rho) for arms in ARMS for name, sds in spreads(arms).items() for rho in (0.0, 0.5)
    ]
    worlds += [World("as measured", MEASURED, rho) for rho in (0.0, 0.5)]
    for at, world in enumerate(worlds):
        futility = 1.5 * float(np.median(world.sds))
        for (pairing, more), looks in itertools.product(pairings(len(world.sds)), LOOKS):
            for given in (None, futility) if looks == LOOKS[-1] else (None,):
                design = Design(pairing, looks, given, None, more)
                yield false_claims(world, design, sweeps, [seed, 10, at])


def margin_rows(sweeps: int, seed: int) -> Iterator[Row]:
    """The margin is twice the largest SD, so that equivalence could be shown."""
    cells = itertools.product(ARMS, ("all 1", "1 to 17", "baseline 1, arms 4"), (False, True))
    for at, (arms, name, all_there) in enumerate(cells):
        sds = spreads(arms)[name]
        margin = 2 * max(sds)
        effects = tuple(
            margin * (1 if place % 4 else -1) if all_there or place % 2 == 0 else 0.0
            for place in range(arms - 1)
        )
        where = "all arms at the margin" if all_there else "every other arm at the margin"
        world = World(f"{where}; SDs {name}", sds, 0.0, effects)
        for (pairing, more), looks in itertools.product(pairings(arms), (LOOKS[0], LOOKS[-1])):
            yield false_claims(world, Design(pairing, looks, None, margin, more), sweeps, [seed, 11, at])


def not_normal_rows(sweeps: int, seed: int) -> Iterator[Row]:
    worlds = [
        World(kind, (1.0,) * arms, kind=kind)
        for kind in ("bounded", "collapsing", "diverging", "diverging without limits")
        for arms in ARMS
    ]
    for at, world in enumerate(worlds):
        few = (
            max(1, sweeps // 20) if world.kind == "diverging without limits" else sweeps
        )  # slow: exact tests
        for pairing, looks in itertools.product(PAIRINGS, (LOOKS[0], LOOKS[-1])):
            yield false_claims(world, Design(pairing, looks), few, [seed, 12, at])


# Costs and power


def cost_rows(sweeps: int, seed: int) -> Iterator[Row]:
    """The gap is that to the fixed design of the same pairing, without more seeds for the baseline."""
    for at, arms in enumerate((4, 10)):
        one = (EFFECT, *(0.0,) * (arms - 2))
        worlds = [
            World("no effect", (SD,) * arms),
            World(f"one arm +{EFFECT}", (SD,) * arms, effects=one),
            *(World(f"N(0, {sd})", (SD,) * arms, effect_sd=sd) for sd in (2, 5, 15)),
        ]
        fixed: dict[tuple[World, Pairing], float] = {}  # the power of the fixed design, which is played first
        for world, (pairing, more) in itertools.product(worlds, pairings(arms)):
            for looks, futility in (((), None), (LOOKS[-1], None), (LOOKS[-1], MATTERS)):
                design = Design(pairing, looks, futility, None, more)
                played = play(world, design, sweeps, np.random.default_rng([seed, 13, at]))
                power = _power(played.plan.verdicts, played.effects)
                _, sign = wrong(played.plan.verdicts, played.effects, None)
                yield {
                    "arms": arms, "world": world.name, **design.keys,
                    "cost": round(float(played.plan.seeds.sum(axis=1).mean()) / (arms * SEEDS), 4),
                    "power": _rounded(power),
                    "power_gap": _rounded(power - fixed.setdefault((world, pairing), power)),
                    "wrong_sign": round(float(sign.any(axis=1).mean()), 5), "of": sweeps,
                }  # fmt: skip


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def anytime_rows(sweeps: int, seed: int) -> Iterator[Row]:
    """The gap is that to the fixed design of the same pairs."""
    at = 0
    for arms, rho in itertools.product(ARMS, (0.0, 0.5)):
        sds = spreads(arms)
        worlds = [World(f"none; SDs {name}", sds[name], rho) for name in ("all 1", "1 to 17")]
        one = (EFFECT, *(0.0,) * (arms - 2))
        worlds.append(World(f"one arm +{EFFECT}; SDs all {SD}", (SD,) * arms, rho, one))
        worlds += [World(f"N(0, {sd}); SDs all {SD}", (SD,) * arms, rho, effect_sd=sd) for sd in (2, 15)]
        for world in worlds:
            at += 1
            rng = [np.random.default_rng([seed, 17, at]) for _ in range(2)]
            fixed = play(world, Design("paired"), sweeps, rng[0])
            played = play(world, EVERY_PAIR, sweeps, rng[1], EXTENSIONS)
            is_false, _ = wrong(played.verdicts, played.effects, None)
            powers = [_power(each.plan.verdicts, each.effects) for each in (fixed, played)]
            powers.append(_power(played.verdicts, played.effects))
            yield {
                "arms": arms, "world": world.name, "correlation": rho,
                "false": round(float(is_false.any(axis=1).mean()), 5),
                "cost": round(float(played.plan.seeds.sum(axis=1).mean()) / (arms * SEEDS), 4),
                **dict(zip(("power_fixed", "power", "power_extended"), map(_rounded, powers), strict=True)),
                "of": sweeps,
            }  # fmt: skip


def _power(verdicts: np.ndarray, effects: np.ndarray) -> float:
    """The share of the differences that matter that are claimed, with the right sign; NaN if there are
    none."""
    there = np.abs(effects) >= MATTERS
    return float((verdicts == np.sign(effects))[there].mean()) if there.any() else math.nan


# The best arm's mean, and intervals


def best_mean_rows(sweeps: int, seed: int) -> Iterator[Row]:
    """All arms alike, SD 1. The truth of any arm is 0."""
    designs = (Design("unpaired"), Design("unpaired", LOOKS[-1], MATTERS / SD))
    for at, (arms, design) in enumerate(itertools.product((4, 10), designs)):
        played = play(
            World("all alike", (1.0,) * arms), design, sweeps, np.random.default_rng([seed, 14, at])
        )
        naive, corrected = [], []
        for row, (baseline, arm) in enumerate(zip(played.values.baseline, played.values.arms, strict=True)):
            run = played.plan.seeds[row]
            samples = [baseline[: run[0]], *(arm[: run[place + 1], place] for place in range(arms - 1))]
            naive.append(max(each.mean() for each in samples))
            corrected.append(corrected_best(samples) or 0.0)
        yield {
            "arms": arms, **design.keys, "naive": round(float(np.mean(naive)), 4),
            "corrected": round(float(np.mean(corrected)), 4),
            "error": round(float(np.std(corrected)) / math.sqrt(sweeps), 4), "of": sweeps,
        }  # fmt: skip


def interval_rows(sweeps: int, seed: int) -> Iterator[Row]:
    """Effects are N(0, 2 SD). Of all intervals, and of sweeps, all of whose intervals hold the truth."""
    arms = 5
    world = World("N(0, 2)", (1.0,) * arms, effect_sd=2.0)
    kinds = itertools.product(PAIRINGS, (LOOKS[0], LOOKS[-1]), (None, 1.0))
    for at, (pairing, looks, margin) in enumerate(kinds):
        design, rng = Design(pairing, looks, margin, margin), np.random.default_rng([seed, 15, at])
        effects = world.true_effects(rng, sweeps)
        values, held = world.draw(rng, effects, design.seeds), np.zeros((sweeps, arms - 1), bool)
        for row in range(sweeps):
            one = Values(values.arms[row : row + 1], values.baseline[row : row + 1])
            found, _ = decide_one(one, design.rule, looks or [design.seeds], design.rule.level(0))
            held[row] = [
                each.low <= truth <= each.high for each, truth in zip(found, effects[row], strict=True)
            ]
        yield {
            **design.keys, "margin": margin, "each": round(float(held.mean()), 4),
            "all": round(float(held.all(axis=1).mean()), 4), "of": sweeps,
        }  # fmt: skip


# The controller


def controller_rows(sweeps: int, seed: int) -> Iterator[Row]:
    """Some arms differ, so that all verdicts occur."""
    cells: list[tuple[int, Design, World]] = []
    for pairing in PAIRINGS:
        normal = World("normal", (1.0,) * 4, 0.3, (0.0, 1.5, 3.0))
        cells += [(4, Design(pairing, looks, 1.5), normal) for looks in LOOKS]
        cells.append((4, Design(pairing, LOOKS[-1], 1.2, 1.2), normal))
        cells.append((4, Design(pairing, LOOKS[-1]), replace(normal, effects=(0.0,) * 3, kind="diverging")))
    ten = World("normal", (1.0,) * 10, 0.0, (0.0, 1.5, 3.0) * 3)
    cells.append((10, Design("unpaired", LOOKS[-1], 1.5, None, True), ten))
    cells.append((4, EVERY_PAIR, normal))
    for at, (arms, design, world) in enumerate(cells):
        extensions = 0 if design.more_baseline else EXTENSIONS
        same = _same_by_controller(world, design, sweeps, np.random.default_rng([seed, 16, at]), extensions)
        yield {
            "arms": arms,
            "world": world.kind,
            **design.keys,
            "margin": design.margin,
            "same": same,
            "of": sweeps,
        }


def _same_by_controller(
    world: World, design: Design, sweeps: int, rng: np.random.Generator, extensions: int
) -> int:
    """In how many sweeps the verdicts and the plan's numbers of trials are the same."""
    effects, rule, arms = world.true_effects(rng, sweeps), design.rule, len(world.sds)
    total, more = design.seeds + extensions * SEEDS, design.more(design.seeds)
    values = world.draw(rng, effects, total, more)
    evidence: Row = {"pairing": design.pairing, "margin": design.margin, "futility": design.futility}
    plans = []
    for number in range(extensions + 1):
        seeds = design.seeds + number * SEEDS
        looks = list(design.looks) if design.looks and not number else "none"
        asked = {**evidence, "looks": "anytime" if design.anytime else looks}
        if design.more_baseline:
            asked["baseline_seeds"] = list(range(seeds, seeds + design.more(seeds)))
        unit = "share" if world.kind != "normal" else "none"
        plans.append(make_evidence_plan(arms, seeds, asked, unit))

    def part(start: int, stop: int, more: int = 0) -> Values:
        return Values(values.arms[:, start:stop], values.baseline[:, start : stop + more], values.limits)

    plan = decide_many(part(0, design.seeds, more), rule, design.looks or [design.seeds], rule.level(0))
    starts = range(design.seeds, total, SEEDS)
    verdicts = verdicts_after(
        design, part(0, design.seeds), plan, (part(start, start + SEEDS) for start in starts)
    )
    same = 0
    for row in range(sweeps):
        runs = np.full((arms, total + more), math.nan)
        runs[0], runs[1:, :total] = values.baseline[row], values.arms[row].T
        rows, trials = run_by_controller(plans, runs, rng)
        is_same = [CODES.get(each.verdict, 0) for each in rows] == list(verdicts[row])
        if not extensions:
            is_same &= trials == list(plan.seeds[row])
        same += is_same
    return same


def simulate(sweeps: int, seed: int) -> Iterator[tuple[str, Row]]:
    """(table, row): `sweeps` a cell of the vectorised tables, fewer where each sweep is decided by itself."""
    parts: list[tuple[str, Callable[[int, int], Iterator[Row]], int]] = [
        ("false_claims", null_rows, 1),
        ("at_margin", margin_rows, 1),
        ("not_normal", not_normal_rows, 1),
        ("costs", cost_rows, 1),
        ("anytime", anytime_rows, 1),
        ("best_mean", best_mean_rows, 2),
        ("intervals", interval_rows, 10),
        ("controller", controller_rows, 33),
    ]
    for name, rows, fewer in parts:
        for row in rows(max(1, sweeps // fewer), seed):
            yield name, row
    yield from fixed_tests.simulate(max(1, sweeps // 10), seed)


def lines_of(content: dict[str, Any]) -> str:
    """JSON with a line for each row of a table."""
    parts = []
    for name, value in content.items():
        rows = ",\n".join(map(json.dumps, value)) if isinstance(value, list) else ""
        parts.append(f"{json.dumps(name)}: " + (f"[\n{rows}\n]" if rows else json.dumps(value)))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    given = parse(__doc__, "null sweeps a row")
    found: dict[str, list[Row]] = {}
    for name, group in itertools.groupby(simulate(given.sweeps, given.seed), lambda each: each[0]):
        found[name] = [row for _, row in group]
        print("\n".join(["", f"### {name}", "", *markdown(name, found[name])]), flush=True)
    if given.out:
        content = {"sweeps": given.sweeps, "seed": given.seed, **found}
        given.out.write_text(lines_of(content))


if __name__ == "__main__":
    main()
