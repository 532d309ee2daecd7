"""The value of a key at which a config has a size nearest to the one that is asked for.

The size of a value is what the trainer's `describe` says of the config with it, and may only grow with the
value; which values are feasible is what the config accepts. Nothing else is known of a trainer, so that the
nearest feasible value is searched for: outwards in doubling steps, by bisection, and then one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel

from sweeps.plan.trainer import Trainer
from sweeps.space.dotted import flatten, get
from sweeps.space.errors import SpecError
from sweeps.space.schema import SIZES, SizeOf

FARTHEST = 2**20  # steps from the value that an arm has
LONGEST_STEP = 2048  # from one feasible value to the next
LONGEST_HOLE = 128  # steps in a row that may be infeasible before there is said to be no more
LARGEST_DIVISOR = 2**16


class _Grid:
    """Candidate values by index, in order. `sizes` holds what was looked at, None where the config does not
    accept the value; `step` is the shortest way from `start`, an accepted index, to another one."""

    def __init__(self, start: int, per: int, look: Callable[[int], float | None]) -> None:
        self.start, self.per, self._look = start, per, look
        self.sizes: dict[int, float | None] = {}
        near = (n for n in range(1, LONGEST_STEP + 1) if self.first((start + n, start - n)) is not None)
        self.step = next(near, 0) if self.first((start,)) is not None else 0

    def first(self, indices: Iterable[int]) -> int | None:
        """The first of them whose value is accepted."""
        for index in indices:
            if index not in self.sizes:
                self.sizes[index] = self._look(index) if index > 0 else None
            if self.sizes[index] is not None:
                return index
        return None

    @property
    def is_regular(self) -> bool:
        """Whether a second step the same way is accepted too."""
        return any(
            all(self.first((self.start + n * way * self.step,)) is not None for n in (1, 2))
            for way in (1, -1)
        )

    def at(self, index: int) -> float:
        """The size at an index that was looked at and is accepted."""
        size = self.sizes[index]
        assert size is not None
        return size

    def within_a_hole(self, index: int, end: int) -> int | None:
        """The first accepted one from `index` on towards `end`, which is left out."""
        way = self.step if end > index else -self.step
        return self.first(range(index, end, way)[:LONGEST_HOLE])


class SizeSearch:
    """Over the feasible values of `key`, for parameters or FLOPs; one search serves every arm."""

    def __init__(self, key: str, of: SizeOf, trainer: Trainer) -> None:
        self._key, self._of, self._trainer = key, of, trainer

    def size(self, config: dict[str, Any]) -> float:
        return self._described(self._trainer.configure(config, [], "match"))

    def _described(self, config: BaseModel) -> float:
        name, what = SIZES[self._of]
        known = self._trainer.describe(config)
        if not known.get(name):
            raise SpecError(
                f"match.{self._of}: trainer {self._trainer.name} does not say an arm's {what}: return "
                f"{name} from describe(config) in its module, or remove match"
            )
        return float(known[name])

    def nearest(self, config: dict[str, Any], target: float) -> tuple[float | None, float]:
        """The feasible value whose size is nearest to `target`, and that size; of equally near values the one
        nearest to the config's own."""
        value, size = number_at(config, self._key), self.size(config)
        if value is None or size == target:
            return value, size
        grid = self._grid(config, value)
        if grid is None:  # the config accepts no other value
            return value, size
        self._approach(grid, target)
        accepted = [index for index, here in grid.sizes.items() if here is not None]
        best = min(accepted, key=lambda index: (abs(grid.at(index) - target), abs(index - grid.start)))
        return _of_index(value, best, grid.per), grid.at(best)

    def _grid(self, config: dict[str, Any], value: float) -> _Grid | None:
        """Whole numbers for a whole value, three decimals for a real one that may have them.

        One that must make something whole (expand x hidden_size channels, in heads of headdim) may not: its
        feasible values are multiples of 1 / n for some whole number n that stands beside it in the config.
        It is the finest of these grids, and a regular one: a config may also take what is nearly whole.
        """
        if isinstance(value, int):
            return self._grid_of(config, value, 1)
        decimals = self._grid_of(config, value, 10 ** max(0, 3 - math.floor(math.log10(value))))
        if decimals is not None and decimals.step == 1:
            return decimals
        section = self._key.partition(".")[0] if "." in self._key else ""
        beside = flatten(get(config, section) if section else config).values()
        parts = dict.fromkeys(n for n in beside if type(n) is int and 1 < n <= LARGEST_DIVISOR)
        grids = [grid for per in parts if (grid := self._grid_of(config, value, per)) is not None]
        return min(grids, key=lambda grid: (not grid.is_regular, grid.step / grid.per), default=decimals)

    def _grid_of(self, config: dict[str, Any], value: float, per: int) -> _Grid | None:
        start = round(value * per)
        if abs(value * per - start) > 0.01 or start < 1:
            return None

        def look(index: int) -> float | None:
            setting = (self._key, _of_index(value, index, per))
            try:
                tried = self._trainer.configure(config, [setting], "match")
            except SpecError:
                return None
            return self._described(tried)

        grid = _Grid(start, per, look)
        return grid if grid.step else None

    def _approach(self, grid: _Grid, target: float) -> None:
        """Look at values ever nearer to the target: outwards in doubling steps until it is passed, then by
        bisection, and at last at each value between the two nearest steps."""
        way = 1 if grid.at(grid.start) < target else -1
        inner, outer = grid.start, grid.start + way * grid.step
        while abs(outer - grid.start) <= FARTHEST * grid.step:
            found = grid.within_a_hole(outer, outer + (outer - grid.start) + way)
            if found is None:
                break
            if (grid.at(found) - grid.at(inner)) * way < 0:
                raise SpecError(
                    f"match.by: {self._key}: as it rises {SIZES[self._of][1]} fall: name a key "
                    f"with which they grow"
                )
            outer = found
            if (grid.at(found) - target) * way >= 0:
                break
            inner, outer = found, found + (found - grid.start)
        if len({size for size in grid.sizes.values() if size is not None}) == 1:
            raise SpecError(
                f"match.by: {self._key}: {SIZES[self._of][1]} are the same whatever it is: name a "
                f"key with which they grow"
            )
        while abs(outer - inner) > grid.step:
            middle = inner + (outer - inner) // (2 * way * grid.step) * way * grid.step
            found = grid.within_a_hole(middle, outer)
            if found is None:
                found = grid.within_a_hole(middle, inner)
            if found is not None and (grid.at(found) - target) * way < 0:
                inner = found
            else:
                outer = middle if found is None else found
        for index in range(min(inner, outer) + 1, max(inner, outer)):
            grid.first((index,))


def _of_index(like: float, index: int, per: int) -> float:
    return index if isinstance(like, int) else index / per


def number_at(config: dict[str, Any], key: str) -> float | None:
    """The number at `key`; None where the config has no such key. Raises SpecError for what is no number."""
    try:
        value = get(config, key)
    except KeyError:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise SpecError(
            f"match.by: {key}: is {value!r}, and only a number above 0 can be searched: name another key"
        )
    return value
