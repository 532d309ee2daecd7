"""Interactions of two factors, by a mixed model over the arms in which they are fully crossed.

y ~ A * B + context + (1 | seed), by restricted maximum likelihood (statsmodels' MixedLM): context are the
levels of the other factors, seed a random intercept. The F test of the A:B terms has the denominator's
degrees of freedom of the stratum within seeds, N - rank(X) - (seeds - 1). On complete data it is the analysis
of variance in randomised blocks, with seeds as blocks. (A repeated-measures one, AnovaRM, would have an error
term per effect, and fewer degrees of freedom.) statsmodels' own chi-squared test assumes infinitely many.
"""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.compare.ranking import claim_of, seed_table
from analysis.design import contexts, levels, levels_of
from analysis.inference.intervals import ALPHA, mean_interval
from analysis.inference.significance import benjamini_hochberg
from analysis.sweep import Sweep

FEWEST_SEEDS = 3  # with fewer, the variance between seeds cannot be estimated
MIXED, BLOCKS = "mixed model", "least squares, seeds as blocks"
TESTS = (
    "factor_a", "factor_b", "n_arms", "n_seeds", "f", "df", "df_error", "p", "q", "seed_sd", "residual_sd",
    "method", "note",
)  # fmt: skip
ESTIMATES = ("factor_a", "factor_b", "level_a", "level_b", "estimate", "low", "high")


@dataclass(frozen=True)
class _Fit:
    """The A:B terms: estimates, covariance, the error; `note` says why there are none, or the method."""

    note: str = ""
    method: str = ""
    estimates: np.ndarray = field(default_factory=lambda: np.zeros(0))
    covariance: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    df_error: float = math.nan
    seed_sd: float = math.nan
    residual_sd: float = math.nan

    @property
    def f(self) -> float:
        if not len(self.estimates):
            return math.nan
        return float(self.estimates @ np.linalg.solve(self.covariance, self.estimates)) / len(self.estimates)


def interactions(sweep: Sweep, metric: str | None = None) -> pd.DataFrame:
    """A row per pair of factors that is fully crossed among the arms; columns: TESTS.

    `f` with `df` and `df_error` degrees of freedom and its `p`; `q` adjusts p for all tested pairs
    (Benjamini and Hochberg): interactions are a screening, not planned claims. `n_arms` and `n_seeds` are the
    arms and seeds used. If there is no test, `note` gives the reason; exploratory sweeps have no p.
    """
    metric = metric or sweep.test_metric or sweep.metric
    is_claim = claim_of(sweep) == "confirmatory"
    rows: list[dict[str, Any]] = []
    for a, b in crossed(sweep):
        data = _data(sweep, a, b, metric)
        fit = _fit(data)
        terms = len(fit.estimates)
        p = float(stats.f.sf(fit.f, terms, fit.df_error)) if terms and is_claim else math.nan
        note = fit.note or ("" if is_claim else "exploratory: without p")
        rows.append(
            {
                "factor_a": a, "factor_b": b, "n_arms": len(_arms(sweep, a, b)),
                "n_seeds": data["seed"].nunique(), "f": fit.f, "df": terms, "df_error": fit.df_error, "p": p,
                "seed_sd": fit.seed_sd, "residual_sd": fit.residual_sd, "method": fit.method, "note": note,
            }
        )  # fmt: skip
    result = pd.DataFrame(rows, columns=list(TESTS))
    result["q"] = benjamini_hochberg(result["p"].to_numpy(dtype=float))
    return result


def interaction_estimates(sweep: Sweep, a: str, b: str, metric: str | None = None) -> pd.DataFrame:
    """The effect of a level of `b` at a level of `a`, minus that at the reference of `a`; columns: ESTIMATES.

    A row per pair of levels except the references (the baseline's levels), with a 95% interval. Empty if the
    factors are not crossed or the model cannot be fitted.
    """
    if (a, b) not in crossed(sweep):
        return pd.DataFrame(columns=list(ESTIMATES))
    data = _data(sweep, a, b, metric or sweep.test_metric or sweep.metric)
    fit = _fit(data)
    names = itertools.product(data["a"].cat.categories[1:], data["b"].cat.categories[1:])
    reach = stats.t.ppf(1 - ALPHA / 2, fit.df_error)
    rows = [
        (a, b, *pair, value, value - reach * error, value + reach * error)
        for pair, value, error in zip(names, fit.estimates, np.sqrt(np.diag(fit.covariance)), strict=False)
    ]
    return pd.DataFrame(rows, columns=list(ESTIMATES))


def cell_means(sweep: Sweep, a: str, b: str, metric: str | None = None) -> pd.DataFrame:
    """`level_a`, `level_b`, `n`, `mean`, `low`, `high` of each cell of a crossed pair, for a plot.

    The mean over the cell's arms at each seed, and its 95% interval over seeds.
    """
    metric = metric or sweep.test_metric or sweep.metric
    data, limits, rows = _data(sweep, a, b, metric), sweep.unit(metric).limits, []
    for pair, cell in data.groupby(["a", "b"], observed=True):
        found = mean_interval(cell.groupby("seed")["y"].mean()).cut(limits)
        rows.append((*pair, found.n, found.mean, found.low, found.high))
    return pd.DataFrame(rows, columns=["level_a", "level_b", "n", "mean", "low", "high"])


def crossed(sweep: Sweep) -> list[tuple[str, str]]:
    """Pairs of factors for which every combination of levels is an arm, in at least one context."""
    return [pair for pair in itertools.combinations(sweep.factors, 2) if len(_arms(sweep, *pair))]


def _arms(sweep: Sweep, a: str, b: str) -> pd.DataFrame:
    """The arms of the contexts in which `a` and `b` are fully crossed, if any: columns a, b and context."""
    table = levels(sweep)
    where = contexts(table, [a, b])
    both = table[table[a].notna() & table[b].notna()]
    arms = pd.DataFrame({"a": both[a], "b": both[b], "context": where.loc[both.index]})
    wanted = arms["a"].nunique() * arms["b"].nunique()
    if min(arms["a"].nunique(), arms["b"].nunique()) < 2:
        return arms.iloc[:0]
    cells = arms.drop_duplicates().groupby("context").size()
    return arms[arms["context"].isin(cells.index[cells == wanted])]


def _data(sweep: Sweep, a: str, b: str, metric: str) -> pd.DataFrame:
    """A row per cell, context and seed: `y`, `a`, `b` (the baseline's level first), `context`, `seed`."""
    arms, table = _arms(sweep, a, b), levels(sweep)
    values = seed_table(sweep, metric)[list(arms.index)].reset_index()
    data = values.melt("seed", var_name="arm", value_name="y").dropna().join(arms, on="arm")
    places = {context: place for place, context in enumerate(dict.fromkeys(arms["context"]))}
    data["context"] = data["context"].map(places)
    data = data.groupby(["a", "b", "context", "seed"])["y"].mean().reset_index()
    for name, factor in (("a", a), ("b", b)):
        order = [level for level in levels_of(table, factor, sweep.baseline) if level in set(arms[name])]
        data[name] = pd.Categorical(data[name], order)
    return data


def _fit(data: pd.DataFrame) -> _Fit:
    seeds, cells = data["seed"].nunique(), data.groupby(["a", "b"], observed=False).size()
    if seeds < FEWEST_SEEDS:
        return _Fit(f"{seeds} seeds are too few: it takes {FEWEST_SEEDS}")
    if (cells == 0).any():
        return _Fit("a cell has no completed trial")
    spread = data["y"].std()
    if not spread > 0:
        return _Fit("all values are equal")
    formula = "y ~ C(a) * C(b)" + (" + C(context)" if data["context"].nunique() > 1 else "")
    scaled = data.assign(y=(data["y"] - data["y"].mean()) / spread, seed=data["seed"].astype(int))
    fit = _mixed(scaled, formula) or _blocks(scaled, formula)
    if not fit.df_error >= 1:
        return _Fit("no degrees of freedom are left for the error: it takes more seeds")
    return replace(
        fit,
        estimates=fit.estimates * spread,
        covariance=fit.covariance * spread**2,
        seed_sd=fit.seed_sd * spread,
        residual_sd=fit.residual_sd * spread,
    )


def _mixed(data: pd.DataFrame, formula: str) -> _Fit | None:
    """The mixed model; None if it does not converge, or ends at the bound of 0 variance between seeds."""
    from statsmodels.formula.api import mixedlm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `converged` reports it
        try:
            result = mixedlm(formula, data, groups=data["seed"]).fit(reml=True, method=["powell"])
        except (np.linalg.LinAlgError, ValueError):
            return None
    between = float(result.cov_re.iloc[0, 0])
    if not result.converged or not between > 1e-6 * result.scale:
        return None
    error = len(data) - np.linalg.matrix_rank(result.model.exog) - (data["seed"].nunique() - 1)
    fitted = result.fe_params
    return _of(MIXED, "", fitted, result.cov_params(), error, math.sqrt(between), result.scale)


def _blocks(data: pd.DataFrame, formula: str) -> _Fit:
    """Ordinary least squares with a constant per seed; exact if the data are complete."""
    from statsmodels.formula.api import ols

    result = ols(formula + " + C(seed)", data).fit()
    note = "the mixed model did not converge, or found no variance between seeds"
    return _of(BLOCKS, note, result.params, result.cov_params(), result.df_resid, math.nan, result.scale)


def _of(
    method: str,
    note: str,
    fitted: pd.Series,
    covariance: pd.DataFrame,
    error: float,
    seed_sd: float,
    scale: float,
) -> _Fit:
    terms = [name for name in fitted.index if "C(a)" in name and "C(b)" in name]
    square = covariance.loc[terms, terms].to_numpy()
    return _Fit(note, method, fitted[terms].to_numpy(), square, float(error), seed_sd, math.sqrt(scale))
