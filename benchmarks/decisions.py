"""Do search and early stopping come to the right decision, and at what cost? `python -m benchmarks.decisions`

Simulated sweeps whose truth is known (benchmarks/decisions.yaml; another by --truth FILE.yaml), run by the
project's own plan, controller, schedulers and looks on a virtual clock, beside Ray Tune's own ASHA. The
same file, --seed and --replicates give the same table.

    right    share of sweeps that name the truly best arm; where no arm is best, that claim nothing
    of full  the same, divided by the full plan's share: every draw and every seed run to the end
    false    share of sweeps that claim at least one difference from the baseline that is not there, or in the
             wrong direction
    shown    share of sweeps that claim, rightly, that the best arm is better than the baseline
    samples  spent, search and evidence together, as a share of the full plan's, which runs all draws and all
             seeds to the end

Behind each share stands the standard error that it has for the number of replicates (points).

With --curves DIR the same schedulers are judged on the real learning curves in a folder, and the tests on
reruns of one config: see benchmarks/curves.py for the files and benchmarks/curve_tables.py for the figures.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import curve_tables
from benchmarks.simulated import Outcome, SimulatedPlan, make_plan, play, play_ray
from benchmarks.truth import Setup, Truth, draw_truth, load_setup

HERE = Path(__file__).resolve().parent
FULL, RAY = "full", "ray"
MAY_SET = {
    "evidence",
    "scheduler",
    "search",
    "seeds",
}  # the arms are the truth's: a policy says how they are compared
SHORT = {
    "right": "Right decisions",
    "of_full": "The same, of the full plan's",
    "false": "False claims",
    "shown": "Best arm rightly claimed to beat the baseline",
    "samples": "Samples, of the full plan's",
}
HEAD = (
    "| scenario | correlation | policy | right % | of full % | false % | shown % | samples % |\n"
    "|---|---|---|---|---|---|---|---|"
)


def make_plans(setup: Setup) -> dict[str, SimulatedPlan]:
    """Each policy's plan, the full one first. Raises ValueError for one that cannot be compared with it."""
    plans = {FULL: make_plan(setup.space, setup.full, FULL)}
    for name, policy in setup.policies.items():
        if name in (FULL, RAY):
            raise ValueError(f"policies.{name}: names another policy of the table: give it a new one")
        if strange := sorted(set(policy) - MAY_SET):
            raise ValueError(f"policies.{name}.{strange[0]}: a policy may set {', '.join(sorted(MAY_SET))}")
        plans[name] = make_plan(setup.space, policy, name)
    longest = _values(max(plans.values(), key=lambda plan: len(_values(plan))))
    for name, plan in plans.items():
        if _values(plan) != longest[: len(_values(plan))]:
            raise ValueError(f"policies.{name}.search: has draws of its own: all must share the first ones")
    return plans


def _values(plan: SimulatedPlan) -> list[float]:
    """The tuned value of each draw."""
    return [draw.values["x"] for draw in plan.draws(plan.arms[0])]


def truths(setup: Setup, plans: dict[str, SimulatedPlan], replicates: int, seed: int) -> Iterator[Any]:
    """(scenario, correlation, its truths): all policies of a cell meet the same ones."""
    arms = plans[FULL].arms
    values = np.array(max((_values(plan) for plan in plans.values()), key=len))
    seeds = {seed for plan in plans.values() for seed in (*plan.spec.seeds, *plan.spec.search.seeds)}
    most = max(seeds | set(setup.ray.seeds if setup.ray else [])) + 1
    for at, (name, scenario) in enumerate(setup.truth.scenarios.items()):
        effects = [scenario.of_arm(arm.levels) for arm in arms]
        for rho in setup.truth.correlations:
            key = (seed, at, round(1000 * rho))
            yield (
                name,
                rho,
                [
                    draw_truth(
                        setup.truth, name, rho, effects, values, most, setup.reports,
                        np.random.default_rng((*key, index)),
                    )
                    for index in range(replicates)
                ],
            )  # fmt: skip


def judge(outcome: Outcome, truth: Truth) -> tuple[bool, bool, bool, float]:
    """Right, false, shown, and the samples in whole runs."""
    wanted = np.sign(truth.effects - truth.effects[0])
    is_false = bool(np.any((outcome.claims != 0) & (outcome.claims != wanted)))
    if truth.best is None:
        return not outcome.claims.any(), is_false, False, outcome.samples
    shown = outcome.claims[truth.best] == 1
    return outcome.named == truth.best, is_false, bool(shown), outcome.samples


def simulate(setup: Setup, replicates: int, seed: int) -> Iterator[dict[str, Any]]:
    """A row a scenario, correlation and policy; shares from 0 to 1."""
    plans = make_plans(setup)
    whole = len(plans[FULL].arms) * (
        len(_values(plans[FULL])) * len(plans[FULL].search_seeds)
        + plans[FULL].spec.search.keep * len(plans[FULL].spec.seeds)
    )
    for scenario, rho, drawn in truths(setup, plans, replicates, seed):
        found = {
            name: [judge(play(plan, truth, setup.workers), truth) for truth in drawn]
            for name, plan in plans.items()
        }
        if setup.ray:
            found[RAY] = [
                judge(play_ray(setup.ray, plans[FULL], truth, setup.workers), truth) for truth in drawn
            ]
        measured = float(np.mean([truth.correlation for truth in drawn]))
        full = np.array(found[FULL], dtype=float)[:, 0]
        for name, judged in found.items():
            table = np.array(judged, dtype=float)
            right, is_false, shown, samples = table.mean(axis=0)
            ratio = right / full.mean() if full.any() else math.nan
            # Both shares come from the same truths: the delta method on the pairs.
            error = np.std(table[:, 0] - ratio * full) / math.sqrt(replicates) / full.mean()
            yield {
                "scenario": scenario,
                "correlation": rho,
                "measured_correlation": round(measured, 3),
                "policy": name,
                "right": round(right, 4),
                "right_se": round(_error(right, replicates), 4),
                "of_full": round(ratio, 4),
                "of_full_se": round(float(error), 4),
                "false": round(is_false, 4),
                "false_se": round(_error(is_false, replicates), 4),
                "shown": round(shown, 4),
                "shown_se": round(_error(shown, replicates), 4),
                "samples": round(samples / whole, 4),
                "samples_se": round(float(np.std(table[:, 3]) / whole / math.sqrt(replicates)), 4),
            }


def _error(share: float, replicates: int) -> float:
    return math.sqrt(share * (1 - share) / replicates)


def line(row: dict[str, Any]) -> str:
    """The row as Markdown, in percent."""

    def cell(name: str) -> str:
        return f"{100 * row[name]:.1f} ±{100 * row[f'{name}_se']:.1f}"

    shown = [cell(name) for name in ("right", "of_full", "false", "shown", "samples")]
    return f"| {' | '.join([row['scenario'], format(row['correlation'], 'g'), row['policy'], *shown])} |"


def summary(rows: list[dict[str, Any]]) -> str:
    """The same in short, as Markdown: a row a policy, a column a scenario, a figure a correlation."""
    correlations = list(dict.fromkeys(row["correlation"] for row in rows))
    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    found = {(row["policy"], row["scenario"], row["correlation"]): row for row in rows}
    at = ", ".join(format(rho, "g") for rho in correlations)
    parts = []
    for key, title in SHORT.items():
        parts += [f"\n{title} (%), at correlation {at}\n", f"| policy | {' | '.join(scenarios)} |"]
        parts.append("|---" * (1 + len(scenarios)) + "|")
        for policy in dict.fromkeys(row["policy"] for row in rows):
            cells = [
                ", ".join(f"{100 * found[policy, scenario, rho][key]:.0f}" for rho in correlations)
                for scenario in scenarios
            ]
            parts.append(f"| {policy} | {' | '.join(cells)} |")
    return "\n".join(parts)


def run(setup: Setup, replicates: int, seed: int) -> dict[str, Any]:
    """Simulate and print the tables. Raises ValueError for plans that cannot be compared."""
    make_plans(setup)
    rows = []
    print(HEAD)
    for row in simulate(setup, replicates, seed):
        rows.append(row)
        print(line(row), flush=True)
    print(summary(rows))
    return {"replicates": replicates, "seed": seed, "rows": rows}


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    world = parser.add_mutually_exclusive_group()
    world.add_argument("--truth", type=Path, default=HERE / "decisions.yaml", help="the data file")
    world.add_argument("--curves", type=Path, metavar="DIR", help="real curves instead of simulated ones")
    parser.add_argument("--replicates", type=int, default=400, help="sweeps a cell or task (default: 400)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (default: 0)")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    given = parser.parse_args()
    try:
        if given.curves:
            content = curve_tables.run(given.curves, given.replicates, given.seed)
        else:
            content = run(load_setup(given.truth), given.replicates, given.seed)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    if given.out:
        given.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
