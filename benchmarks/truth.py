"""What is true in a simulated sweep, and what its runs show of it.

Values are points of accuracy (percent), times are shares of a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trm.settings.messages import explain
from trm.settings.yaml import load_yaml

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Effect(Section):
    """`points` for the arms that have all of `levels`."""

    levels: dict[str, Any] = Field(min_length=1)
    points: float


class Tuned(Section):
    drop: float = Field(ge=0)
    optimum: tuple[Share, Share]

    @model_validator(mode="after")
    def _in_order(self) -> Tuned:
        if self.optimum[0] > self.optimum[1]:
            raise ValueError(f"optimum: the low end comes first (given {list(self.optimum)}): swap them")
        return self


class Early(Section):
    at: float = Field(gt=0, lt=1)
    shared: Share


class Crossing(Section):
    until: float = Field(gt=0, le=1)
    arms: float
    shift: float


class Collapse(Section):
    share: Share
    between: tuple[Share, Share]
    diverged: Share
    floor: float


class Scenario(Section):
    effects: list[Effect] = []
    crossing: Crossing | None = None
    collapse: Collapse | None = None

    def of_arm(self, levels: Mapping[str, Any]) -> float:
        """The arm's final value at its optimum, over the baseline's."""
        return sum(e.points for e in self.effects if all(levels.get(k) == v for k, v in e.levels.items()))


class World(Section):
    level: float
    seed_sd: float = Field(ge=0)
    tuned: Tuned
    early: Early
    speed_sd: float = Field(ge=0)
    correlations: list[Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)
    scenarios: dict[str, Scenario] = Field(min_length=1)


class RaySettings(Section):
    grace_period: int = Field(gt=0)
    reduction_factor: float = Field(gt=1)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)


class Setup(Section):
    """The whole data file."""

    truth: World
    workers: int = Field(ge=1)
    reports: int = Field(ge=1)
    space: dict[str, Any]
    full: dict[str, Any]
    policies: dict[str, dict[str, Any]]
    ray: RaySettings | None = None


def load_setup(path: Path) -> Setup:
    """Raises ValueError naming file, key, value and remedy."""
    try:
        return Setup.model_validate(load_yaml(path))
    except ValidationError as error:
        raise ValueError(explain(error, Setup, str(path))) from error


@dataclass(frozen=True)
class Truth:
    """One replicate. Runs are indexed by arm, draw and seed."""

    effects: np.ndarray  # of the arms, at their optimum, over the baseline's: points
    curves: np.ndarray  # [arm, draw, seed, report]: points; NaN once a run has diverged
    durations: np.ndarray  # [arm, draw, seed]: from one report to the next
    correlation: float  # measured over the runs, between time `early.at` and the end, break-downs left out

    @property
    def best(self) -> int | None:
        """The arm that is truly best; None where several are."""
        (found,) = np.nonzero(self.effects == self.effects.max())
        return int(found[0]) if len(found) == 1 else None


def draw_truth(
    world: World,
    name: str,
    correlation: float,
    effects: Sequence[float],
    values: np.ndarray,
    seeds: int,
    reports: int,
    rng: np.random.Generator,
) -> Truth:
    """`effects` are the arms', `values` the tuned value of each draw. The generator is all that is random."""
    scenario = world.scenarios[name]
    shape = (len(effects), len(values), seeds)
    optimum = rng.uniform(*world.tuned.optimum, size=(len(effects), 1, 1))
    noise = world.seed_sd * rng.standard_normal(shape)
    own = np.sqrt(1 - world.early.shared) * rng.standard_normal(shape)
    own += np.sqrt(world.early.shared) * rng.standard_normal(shape[:2])[..., None]
    durations = np.exp(world.speed_sd * rng.standard_normal(shape))

    def towards(time: float) -> np.ndarray:
        """Where a run is heading, as far as that can be seen at `time`: its final value at time 1."""
        turn = scenario.crossing
        left = max(0.0, 1 - time / turn.until) if turn else 0.0
        gain = np.reshape(effects, (-1, 1, 1)) * (1 - (1 - turn.arms if turn else 0) * left)
        centre = optimum + (turn.shift * left if turn else 0.0)
        loss = world.tuned.drop * ((values[None, :, None] - centre) / 0.5) ** 2
        return gain - loss + noise

    final = towards(1.0)
    mean, spread = final.mean(), final.std()

    def seen(time: float) -> np.ndarray:
        """`own` is scaled so that runs spread as much early as at the end, which leaves the correlation."""
        if time <= world.early.at:
            rho = correlation * time / world.early.at
        else:
            rho = correlation + (1 - correlation) * (time - world.early.at) / (1 - world.early.at)
        return mean + rho * (towards(time) - mean) + np.sqrt(1 - rho**2) * spread * own

    # The common rise of all curves changes no comparison at equal samples. It does change the median rule,
    # whose running means lag behind it.
    times = np.arange(1, reports + 1) / reports
    curves = np.stack([seen(time) + world.level * time**0.3 for time in times], axis=-1)
    measured = np.corrcoef(seen(world.early.at).ravel(), final.ravel())[0, 1]
    if scenario.collapse is not None:
        fate = scenario.collapse
        breaks, diverges = rng.random(shape) < fate.share, rng.random(shape) < fate.diverged
        since = times >= rng.uniform(*fate.between, size=shape)[..., None]
        curves[since & breaks[..., None]] = fate.floor
        curves[since & (breaks & diverges)[..., None]] = np.nan
    return Truth(np.asarray(effects, dtype=float), curves, durations, float(measured))
