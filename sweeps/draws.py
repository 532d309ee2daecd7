"""Draws that are known before launch: Sobol points, random ones, or a grid, by Optuna's samplers.

All arms get the same ones: the whole of `tune` is drawn at once, and each arm takes the values that apply to it.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from sweeps.spec import Domain

SEED = 0  # equal spaces get equal draws, in every sweep


def distribution(domain: Domain) -> BaseDistribution:
    """Optuna's word for a domain."""
    if domain.choice is not None:
        return CategoricalDistribution(domain.choice)
    low, high = domain.bounds
    log = domain.kind.startswith("log")
    if domain.kind.endswith("int"):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)


def known_draws(algorithm: str, domains: Mapping[str, Domain], number: int) -> list[dict[str, Any]]:
    """`number` draws over all of `domains`, or every combination for `grid`. Not for `tpe`."""
    if algorithm == "grid":
        names = list(domains)
        values = [_grid_values(domains[name]) for name in names]
        return [dict(zip(names, combination, strict=True)) for combination in itertools.product(*values)]
    distributions = {name: distribution(domain) for name, domain in domains.items()}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(sampler=_sampler(algorithm))
        if algorithm == "sobol":
            # QMCSampler learns the space from the first trial there is, which is not one of its points.
            first = {name: _any_value(each) for name, each in distributions.items()}
            study.add_trial(optuna.create_trial(params=first, distributions=distributions, value=0.0))
        return [dict(study.ask(distributions).params) for _ in range(number)]


def _sampler(algorithm: str) -> optuna.samplers.BaseSampler:
    if algorithm == "sobol":
        return optuna.samplers.QMCSampler(qmc_type="sobol", scramble=True, seed=SEED)
    return optuna.samplers.RandomSampler(seed=SEED)


def _any_value(each: BaseDistribution) -> Any:
    return each.choices[0] if isinstance(each, CategoricalDistribution) else each.low  # type: ignore[attr-defined]


def _grid_values(domain: Domain) -> list[Any]:
    if domain.choice is not None:
        return list(domain.choice)
    low, high = domain.bounds
    return list(range(int(low), int(high) + 1))
