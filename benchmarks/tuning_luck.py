"""Does a claim hold for the arms at their chosen draws, and at their best? `python -m benchmarks.tuning_luck`

A sweep chooses an arm's draw, here one tuned value, by the search's results and repeats it on fresh seeds.
A claim about arms can then mean two things: that they differ at the values that were chosen, or at the best
value of each. The sweeps are simulated in the world of benchmarks/decisions.yaml, on its draws; a run is its
final value alone, and nothing stops early. In the second table the designs of a world meet the same optima.
The same --seed and --sweeps give the same tables.

    chosen   arms that are equally good at their optimum, by size of the design: share of sweeps in which
             some claim has the wrong sign at the chosen draws; in which the simultaneous (Bonferroni) 95%
             intervals miss some true difference at the chosen draws; in which any difference is claimed,
             which is false of the arms at their best
    designs  by way of choosing the value, four arms (some designs with 2 and 10): false claims about the
             arms at their best; power, the share of sweeps that claim a difference of 1.5 points; right, the
             share that rank first an arm 1.5 points ahead; regret, the points that the choice loses against
             the optimum; cost, an arm's runs as a share of 16 draws and 8 seeds

Claims are by the t-test with Holm's procedure at 5%, arms against the first.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import special, stats

from analysis.inference.intervals import ALPHA, unequal_df
from analysis.inference.significance import Pairing, holm
from benchmarks.options import parse
from benchmarks.truth import Setup, World, load_setup
from sweeps.decide.surface import LENGTHS, LEVEL, NOISES, clipped
from sweeps.plan.draws import known_draws
from sweeps.space.values import Domain

FILE = Path(__file__).resolve().parent / "decisions.yaml"
NARROW = 30.0  # points lost at half the range from the optimum, where that of the data file is wide
CLIFF = (0.15, 40.0)  # how far above its optimum a run fails, and the points that it then loses
FULL = 16 + 8  # runs of an arm

# Points lost at a distance from the optimum, in halves of the range; positive above it.
SHAPES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "quadratic": lambda away, drop: drop * away**2,
    "skewed": lambda away, drop: drop * np.where(away > 0, 4, 1) * away**2,
    "cliff": lambda away, drop: drop * away**2 + CLIFF[1] * (away > 2 * CLIFF[0]),
}
Choice = Literal["best", "quadratic", "shared", "process", "smoothed", "checked"]


@dataclass(frozen=True)
class Design:
    """What each arm runs, and how its value for the evidence is chosen from the search's results:

    best       the `keep` draws with the best results
    quadratic  the top of a parabola for each arm, all of one curvature, by least squares
    shared     the same with one top for all arms
    process    the top of a Gaussian process for each arm, with one length scale and one noise for all
    smoothed   the draw at which that process is highest
    checked    its top, if its own search run comes out better than the best draw

    With `replicates` all of it, search and evidence, is repeated on further draws and seeds, and the means of
    the repeats are compared. With `nested` the kept draws are a random sample of the arm's: their means are
    compared, with the variance between draws pooled over the arms.
    """

    draws: int = 16
    seeds: int = 8  # of the evidence, for each kept draw of a replicate
    choice: Choice = "best"
    search_seeds: int = 1
    keep: int = 1
    replicates: int = 1
    nested: bool = False

    @property
    def runs(self) -> int:
        """Of an arm."""
        searched = self.draws + (self.choice == "checked")
        return self.replicates * (searched * self.search_seeds + self.keep * self.seeds)


CHOSEN = [
    Design(draws, search_seeds=seeds, keep=keep)
    for draws, seeds, keep in itertools.product((4, 5, 8, 16), (1, 3), (1, 2, 3))
]
ARMS = (4, 6, 10)
DESIGNS = [
    Design(),
    Design(8, 16),
    Design(8, 8, search_seeds=2),
    Design(5, 8, search_seeds=3),
    Design(8, 8, keep=2, nested=True),
    Design(6, 6, keep=3, nested=True),
    Design(5, 1, replicates=4),
    Design(4, 2, replicates=4),
    Design(3, 1, replicates=6),
    Design(2, 1, replicates=8),
    Design(16, 8, "shared"),
    Design(16, 8, "quadratic"),
    Design(8, 16, "quadratic"),
    Design(16, 8, "process"),
    Design(8, 16, "process"),
    Design(16, 8, "smoothed"),
    Design(15, 8, "checked"),
    # at half the cost
    Design(4),
    Design(5),
    Design(2, 1, replicates=4),
    Design(4, 8, "quadratic"),
    Design(5, 8, "quadratic"),
    Design(5, 8, "process"),
    Design(8, 4),
    Design(8, 4, "process"),
    # at two thirds and five sixths
    Design(8),
    Design(8, 8, "quadratic"),
    Design(8, 8, "process"),
    Design(8, 8, "smoothed"),
    Design(7, 8, "checked"),
    Design(12),
    Design(12, 8, "process"),
    # at more
    Design(16, 8, keep=3, nested=True),
    Design(32),
    Design(16, search_seeds=3),
]
OF_OTHER_SIZE = [Design(), Design(16, 8, "process"), Design(16, 8, "smoothed")]  # with 2 and 10 arms too


@dataclass(frozen=True)
class Sweeps:
    """Simulated sweeps of one design; the first arm is the baseline."""

    chosen: np.ndarray  # [sweep, arm]: expected value at the chosen draws: points
    regret: np.ndarray  # [sweep, arm]: what the choice loses against the arm's optimum: points
    table: np.ndarray  # [sweep, unit, arm]: what is compared; units are seeds, replicates or kept draws


def play(
    world: World,
    shape: str,
    effects: np.ndarray,
    design: Design,
    sweeps: int,
    rng: np.random.Generator,
) -> Sweeps:
    """`effects` are the arms' values at their optimum, in points over the baseline's."""
    arms, sd = len(effects), world.seed_sd
    optimum = rng.uniform(*world.tuned.optimum, size=(sweeps, arms, 1))

    def lost(values: np.ndarray) -> np.ndarray:
        """`values` [..., arm, draw] broadcast over the sweeps."""
        return SHAPES[shape]((values - optimum) / 0.5, world.tuned.drop)

    def searched(values: np.ndarray) -> np.ndarray:
        """The means over the search's seeds. The arm's effect is left out: it moves all draws alike."""
        loss = lost(values)
        return rng.normal(-loss, sd / math.sqrt(design.search_seeds))

    regrets, means = [], []
    values = tuned_values(design.draws * design.replicates)
    for drawn in np.split(values, design.replicates):
        results = searched(drawn)
        at = choose(design, drawn, results)
        if design.choice == "checked":
            best = drawn[results.argmax(axis=-1)][..., None]
            at = np.where(searched(at) > results.max(axis=-1, keepdims=True), at, best)
        regrets.append(lost(at))
        noise = sd * rng.standard_normal((sweeps, design.seeds, arms, design.keep))
        means.append(effects[:, None] - regrets[-1][:, None] + noise)
    regret = np.mean(regrets, axis=(0, -1))
    runs = np.stack(means, axis=1)  # [sweep, replicate, seed, arm, kept draw]
    if design.nested:
        table = runs.mean(axis=(1, 2)).swapaxes(1, 2)
    else:
        table = runs.mean(axis=(2, -1) if design.replicates > 1 else (1, -1))
    return Sweeps(effects - regret, regret, table)


@lru_cache
def tuned_values(number: int) -> np.ndarray:
    """The first draws of a Sobol search, as every arm gets them."""
    drawn = known_draws("sobol", {"x": Domain(uniform=(0, 1))}, number)
    return np.array([draw["x"] for draw in drawn])


# How the value for the evidence is chosen


def choose(design: Design, values: np.ndarray, results: np.ndarray) -> np.ndarray:
    """[sweep, arm, kept draw]: tuned values, by the search's `results` [sweep, arm, draw] at `values`."""
    if design.choice == "best":
        return values[np.argsort(-results, axis=-1)[..., : design.keep]]
    if design.choice in ("process", "checked", "smoothed"):
        places = values if design.choice == "smoothed" else PLACES
        return process_top(values, results, places)[..., None]
    shared = design.choice == "shared"
    top = parabola_top(values, results.mean(axis=1, keepdims=True) if shared else results)
    best = values[results.argmax(axis=-1)]  # where the fit has no top
    return np.where(np.isnan(top), best, top)[..., None]


def parabola_top(values: np.ndarray, results: np.ndarray) -> np.ndarray:
    """[sweep, arm]: the tops of parabolas of one curvature, by least squares, within the range of `values`;
    NaN where the fit curves upwards."""
    centred = values - values.mean()
    slopes = results @ centred / (centred @ centred)
    square = centred**2 - np.mean(centred**2)
    bend = square - (square @ centred) / (centred @ centred) * centred  # its part beside level and slope
    curvature = (results @ bend).mean(axis=1, keepdims=True) / (bend @ bend)
    slopes = slopes - curvature * (square @ centred) / (centred @ centred)
    with np.errstate(divide="ignore"):
        top = np.where(curvature < 0, -slopes / (2 * curvature), np.nan)
    return np.clip(values.mean() + top, values.min(), values.max())


PLACES = np.linspace(0, 1, 41)


def process_top(values: np.ndarray, results: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[sweep, arm]: at which of `places` the mean of a Gaussian process is highest, which is that of
    `sweeps.decide.surface`: for all sweeps at once, and at any place."""
    known = clipped(results)
    size = known.shape[1] * known.shape[2]
    likeliest = np.full(len(known), -np.inf)
    top = np.zeros(known.shape[:2])
    for length, noise in itertools.product(LENGTHS, NOISES):
        kernel = LEVEL + np.exp(-0.5 * ((values[:, None] - values) / length) ** 2)
        covariance = kernel + noise * np.eye(len(values))
        weights = known @ np.linalg.inv(covariance)
        scale = (weights * known).sum(axis=(1, 2)) / size
        likelihood = -size * np.log(scale) - known.shape[1] * np.linalg.slogdet(covariance)[1]
        (better,) = np.nonzero(likelihood > likeliest)
        likeliest[better] = likelihood[better]
        towards = np.exp(-0.5 * ((values[:, None] - places) / length) ** 2)  # the level moves no top
        top[better] = places[(weights[better] @ towards).argmax(axis=-1)]
    return top


# What is claimed, and what is true


def differences(table: np.ndarray, pairing: Pairing | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate, standard error and degrees of freedom of all sweeps at once: [sweep, arm but the baseline].

    As of mean_of and difference_of in analysis.inference.intervals. Without a pairing, the variance between
    units is pooled over the arms.
    """
    units, arms = table.shape[1:]
    gap = (table[:, :, 1:] - table[:, :, :1]).mean(axis=1)
    if pairing == "paired":
        spread = (table[:, :, 1:] - table[:, :, :1]).std(axis=1, ddof=1)
        return gap, spread / math.sqrt(units), np.full(gap.shape, units - 1)
    parts = table.var(axis=1, ddof=1) / units
    if pairing == "unpaired":
        both = np.stack(np.broadcast_arrays(parts[:, 1:], parts[:, :1]))
        return gap, np.sqrt(both.sum(axis=0)), unequal_df(both, np.full(both.shape, units - 1.0))
    pooled = np.sqrt(2 * parts.mean(axis=1, keepdims=True))
    return gap, np.broadcast_to(pooled, gap.shape), np.full(gap.shape, arms * (units - 1))


def claims(table: np.ndarray, pairing: Pairing | None) -> np.ndarray:
    """[sweep, arm beside the baseline]: the sign of a difference that is claimed, else 0."""
    gap, error, df = differences(table, pairing)
    p = 2 * special.stdtr(df, -np.abs(gap) / error)
    return np.sign(gap) * (np.apply_along_axis(holm, 1, p) <= ALPHA)


def misses(found: Sweeps, pairing: Pairing) -> np.ndarray:
    """[sweep]: whether the simultaneous intervals leave out a true difference at the chosen draws."""
    gap, error, df = differences(found.table, pairing)
    half = stats.t.isf(ALPHA / 2 / gap.shape[1], df) * error
    return (np.abs(gap - (found.chosen[:, 1:] - found.chosen[:, :1])) > half).any(axis=1)


def chosen_row(
    world: World, arms: int, design: Design, sweeps: int, rng: np.random.Generator
) -> dict[str, Any]:
    """A row of the first table."""
    found = play(world, "quadratic", np.zeros(arms), design, sweeps, rng)
    true = np.sign(found.chosen[:, 1:] - found.chosen[:, :1])
    row = {"drop": world.tuned.drop, "arms": arms, "draws": design.draws}
    row |= {"search_seeds": design.search_seeds, "keep": design.keep}
    for pairing in ("paired", "unpaired"):
        claimed = claims(found.table, pairing)
        row[f"{pairing}_wrong"] = _share(((claimed != 0) & (claimed != true)).any(axis=1))
        row[f"{pairing}_missed"] = _share(misses(found, pairing))
        row[f"{pairing}_false"] = _share(claimed.any(axis=1))
    return row


def design_row(
    world: World, shape: str, effects: np.ndarray, design: Design, sweeps: int, seed: list[int]
) -> dict[str, Any]:
    """A row of the second table. `effects`: the second arm is one of the two that are compared for power, the
    one with the highest effect is to rank first."""
    null = play(world, shape, np.zeros(len(effects)), design, sweeps, np.random.default_rng([*seed, 0]))
    main = play(world, shape, effects, design, sweeps, np.random.default_rng([*seed, 1]))
    row = {"shape": shape, "drop": world.tuned.drop, "arms": len(effects), "design": label(design)}
    row |= {
        "runs": design.runs,
        "cost": round(design.runs / FULL, 3),
        "regret": round(float(null.regret.mean()), 3),
    }
    ranked = main.table.mean(axis=1).argmax(axis=1)
    row["right"] = _share(ranked == effects.argmax())
    pairings: tuple[Pairing | None, ...] = (None,) if design.nested else ("paired", "unpaired")
    for pairing in pairings:
        row[f"{pairing or 'nested'}_false"] = _share(claims(null.table, pairing).any(axis=1))
        row[f"{pairing or 'nested'}_power"] = _share(claims(main.table, pairing)[:, 0] == 1)
    return row


def _share(happened: np.ndarray) -> float:
    return round(float(happened.mean()), 4)


def label(design: Design) -> str:
    """`8 draws x 2 seeds, keep 2 nested, 8 seeds`."""
    parts = [f"{design.draws} draws" + (f" x {design.search_seeds} seeds" * (design.search_seeds > 1))]
    parts += [design.choice] * (design.choice != "best")
    parts += [f"keep {design.keep}" + " nested" * design.nested] * (design.keep > 1)
    parts.append(f"{design.seeds} seed" + "s" * (design.seeds > 1))
    return ", ".join(parts) + (f"; all x {design.replicates}" if design.replicates > 1 else "")


def main_effects(setup: Setup) -> np.ndarray:
    """Of the data file's arms in the scenario `main`: 0, 1.5, 2 and 3.5 points."""
    names, levels = zip(*setup.space["ablate"].items(), strict=True)
    arms = [dict(zip(names, each, strict=True)) for each in itertools.product(*levels)]
    return np.array([setup.truth.scenarios["main"].of_arm(arm) for arm in arms])


def simulate(setup: Setup, sweeps: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, row)."""
    tuned = setup.truth.tuned
    worlds = [
        setup.truth.model_copy(update={"tuned": tuned.model_copy(update={"drop": drop})})
        for drop in (tuned.drop, NARROW)
    ]
    for place, (world, arms, design) in enumerate(itertools.product(worlds, ARMS, CHOSEN)):
        rng = np.random.default_rng([seed, 0, place])
        yield "chosen", chosen_row(world, arms, design, sweeps, rng)
    effects = main_effects(setup)
    for place, (world, shape) in enumerate(itertools.product(worlds, SHAPES)):
        for design in DESIGNS:
            yield "designs", design_row(world, shape, effects, design, sweeps, [seed, 1, place])
        for some in (effects[:2], np.append(effects, np.zeros(6))):
            for design in OF_OTHER_SIZE:
                yield "designs", design_row(world, shape, some, design, sweeps, [seed, 1, place])


TESTS = {"paired": "paired t", "unpaired": "Welch", "nested": "nested"}
WHAT = {"chosen": ("wrong", "missed", "false"), "designs": ("false", "power")}
KEYS = {
    "chosen": ("drop", "arms", "draws", "search_seeds", "keep"),
    "designs": ("shape", "drop", "arms", "design"),
}


def head(name: str) -> str:
    names = [*KEYS[name], *(["cost", "regret", "right"] if name == "designs" else [])]
    names += [f"{what}, {test}" for what in WHAT[name] for test in _tests(name).values()]
    return f"| {' | '.join(names)} |\n" + "|---" * len(names) + "|"


def _tests(name: str) -> dict[str, str]:
    return {test: shown for test, shown in TESTS.items() if name == "designs" or test != "nested"}


def line(name: str, row: dict[str, Any]) -> str:
    """The row as Markdown: shares in percent, regret in points."""
    cells = [str(row[key]) for key in KEYS[name]]
    if name == "designs":
        cells += [f"{100 * row['cost']:.0f}", f"{row['regret']:.2f}", f"{100 * row['right']:.1f}"]
    keys = [f"{test}_{what}" for what in WHAT[name] for test in _tests(name)]
    cells += [f"{100 * row[key]:.1f}" if key in row else "" for key in keys]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    given = parse(__doc__, "a row")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in KEYS}
    for name, row in simulate(load_setup(FILE), given.sweeps, given.seed):
        if not found[name]:
            print(f"\n{head(name)}")
        found[name].append(row)
        print(line(name, row), flush=True)
    if given.out:
        given.out.write_text(
            json.dumps({"sweeps": given.sweeps, "seed": given.seed, **found}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
