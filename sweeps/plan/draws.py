"""Draws that are known before the launch: Sobol points, random points, or a grid, from Optuna's samplers.

All arms get the same draws: each draw has a value for every key of `tune`, and an arm uses those that apply
to it.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sweeps.space.errors import SpecError
from sweeps.space.values import Domain, topological_order

if TYPE_CHECKING:  # Optuna takes a while to load, and most sweeps tune nothing
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

SEED = 0  # equal spaces get equal draws, in every sweep
MAX_DRAWS = 10_000
TPE_STARTUP = 10  # draws of an arm that TPE makes at random; see `sweeps.decide.search`


def distribution(domain: Domain) -> BaseDistribution:
    """The domain as Optuna's distribution."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if domain.choice is not None:
        return CategoricalDistribution(domain.choice)
    low, high = domain.bounds
    log = domain.kind.startswith("log")
    if domain.kind.endswith("int"):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)


def known_draws(algorithm: str, domains: Mapping[str, Domain], number: int) -> list[dict[str, Any]]:
    """`number` draws with a value for each domain; for `grid` every combination. `tpe` has no known draws."""
    if algorithm == "grid":
        return _grid(domains)
    import optuna

    # A choice is drawn as an index: Optuna's Sobol sampler would draw a category at random, not by Sobol.
    space = {
        name: distribution(domain if domain.choice is None else _index(domain.choice))
        for name, domain in domains.items()
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(sampler=_sampler(algorithm))
        if algorithm == "sobol":
            # QMCSampler takes the space from the study's first trial, and starts its points after it.
            first = {name: domain.low for name, domain in space.items()}  # type: ignore[attr-defined]
            study.add_trial(optuna.create_trial(params=first, distributions=space, value=0.0))
        drawn = [study.ask(space).params for _ in range(number)]
    return [
        {
            name: value if (choice := domains[name].choice) is None else choice[value]
            for name, value in draw.items()
        }
        for draw in drawn
    ]


def applies(domain: Domain, values: Mapping[str, Any]) -> bool:
    """Whether the tuned values drawn so far meet the domain's `when`, which names only tuned values."""
    return all(
        path in values and any(_same(values[path], value) for value in allowed)
        for path, allowed in domain.when.items()
    )


def _same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)  # 1 is not True


def in_dependency_order(domains: Mapping[str, Domain]) -> dict[str, Domain]:
    """The domains, each after those that its `when` names. Raises SpecError for a cycle."""
    needs = {name: {path for path in domain.when if path in domains} for name, domain in domains.items()}
    return {name: domains[name] for name in topological_order(needs, "tune")}


def drawn_for(domains: Mapping[str, Domain], values: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a draw that an arm uses: the values of its `domains` whose `when` this draw meets."""
    used: dict[str, Any] = {}
    for name, domain in in_dependency_order(domains).items():
        if applies(domain, used):
            used[name] = values[name]
    return {name: used[name] for name in values if name in used}


def _index(choices: list[Any]) -> Domain:
    # Skip validation: with a single choice both bounds are 0, which Domain refuses.
    return Domain.model_construct(int=(0, len(choices) - 1))


def _sampler(algorithm: str) -> BaseSampler:
    from optuna.samplers import QMCSampler, RandomSampler

    if algorithm == "sobol":
        return QMCSampler(qmc_type="sobol", scramble=True, seed=SEED)
    return RandomSampler(seed=SEED)


def _grid(domains: Mapping[str, Domain]) -> list[dict[str, Any]]:
    """Every combination. Raises SpecError if a domain is continuous or the grid is too large."""
    sizes = []
    for name, domain in domains.items():
        if domain.kind not in ("choice", "int"):
            raise SpecError(f"tune.{name}: {domain.kind} has no grid: use choice or int, or algorithm sobol")
        low, high = (0, len(domain.choice) - 1) if domain.choice is not None else domain.bounds
        sizes.append(int(high - low) + 1)
    if math.prod(sizes) > MAX_DRAWS:
        raise SpecError(f"tune: the grid has {math.prod(sizes):,} points: use sobol, or fewer values")
    combinations = itertools.product(*(_grid_values(domain) for domain in domains.values()))
    return [dict(zip(domains, values, strict=True)) for values in combinations]


def _grid_values(domain: Domain) -> list[Any]:
    if domain.choice is not None:
        return list(domain.choice)
    low, high = domain.bounds
    return list(range(int(low), int(high) + 1))
