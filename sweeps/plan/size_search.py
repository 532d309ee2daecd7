"""Finds the value of a config's key at which the config's size is nearest to a target.

The size is what the trainer's `describe` returns for the config, and must grow with the value; a value is
feasible if the config accepts it. Nothing else is assumed of a trainer. The search goes outwards in doubling
steps, continues by bisection, and ends by trying each remaining value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel

from sweeps.plan.trainer import Trainer
from sweeps.space.dotted import get
from sweeps.space.errors import SpecError
from sweeps.space.schema import SIZES, SizeOf
from trm.settings.overrides import flatten

MAX_DISTANCE = 2**20  # steps from the arm's own value
MAX_STEP = 2048  # grid points from one feasible value to the next
MAX_GAP = 128  # steps in a row that may be infeasible before the search assumes that all further ones are
MAX_DIVISOR = 2**16


class _Grid:
    """Candidate values index / `per`, and their sizes.

    `sizes` holds the size of every index tried so far, None if the config does not accept the value. `start`
    is the index of the arm's own value; `step` is the distance to the nearest other feasible index, 0 if
    there is none.
    """

    def __init__(self, start: int, per: int, size_of: Callable[[int], float | None]) -> None:
        self.start, self.per, self._size_of = start, per, size_of
        self.sizes: dict[int, float | None] = {}
        near = (n for n in range(1, MAX_STEP + 1) if self.first_feasible((start + n, start - n)) is not None)
        self.step = next(near, 0) if self.first_feasible((start,)) is not None else 0

    def first_feasible(self, indices: Iterable[int]) -> int | None:
        """The first of the indices whose value is feasible, or None."""
        for index in indices:
            if index not in self.sizes:
                self.sizes[index] = self._size_of(index) if index > 0 else None
            if self.sizes[index] is not None:
                return index
        return None

    @property
    def is_regular(self) -> bool:
        """Whether two steps in the same direction are both feasible."""
        return any(
            all(self.first_feasible((self.start + n * sign * self.step,)) is not None for n in (1, 2))
            for sign in (1, -1)
        )

    def size(self, index: int) -> float:
        """The size at a feasible index that was tried."""
        size = self.sizes[index]
        assert size is not None
        return size

    def first_feasible_towards(self, index: int, end: int) -> int | None:
        """The first feasible index from `index` towards `end`, which is excluded, within MAX_GAP steps."""
        step = self.step if end > index else -self.step
        return self.first_feasible(range(index, end, step)[:MAX_GAP])


class SizeSearch:
    """Searches the feasible values of `key`; the size is parameters or FLOPs. One search serves all arms."""

    def __init__(self, key: str, size_of: SizeOf, trainer: Trainer) -> None:
        self._key, self._size_of, self._trainer = key, size_of, trainer

    def size(self, config: dict[str, Any]) -> float:
        """The size of a config. Raises SpecError if the trainer's `describe` does not return it."""
        return self._described_size(self._trainer.configure(config, [], "match"))

    def _described_size(self, config: BaseModel) -> float:
        name, noun = SIZES[self._size_of]
        description = self._trainer.describe(config)
        if not description.get(name):
            raise SpecError(
                f"match.{self._size_of}: trainer {self._trainer.name} does not say an arm's {noun}: return "
                f"{name} from describe(config) in its module, or remove match"
            )
        return float(description[name])

    def nearest(self, config: dict[str, Any], target: float) -> tuple[float | None, float]:
        """The feasible value whose size is nearest to `target`, and that size. Of two equally near values it
        is the one nearer to the config's own. The value is None if the config does not have the key."""
        value, size = number_at(config, self._key), self.size(config)
        if value is None or size == target:
            return value, size
        grid = self._grid(config, value)
        if grid is None:  # the config accepts no other value
            return value, size
        self._approach(grid, target)
        feasible = [index for index, size_at in grid.sizes.items() if size_at is not None]
        best = min(feasible, key=lambda index: (abs(grid.size(index) - target), abs(index - grid.start)))
        return _value_at(value, best, grid.per), grid.size(best)

    def _grid(self, config: dict[str, Any], value: float) -> _Grid | None:
        """The grid to search: whole numbers if the value is one; else three decimals, if these are feasible.

        They are not if a product must be a whole number, as with expand x hidden_size channels in heads of
        headdim. Then the feasible values are multiples of 1 / n, where n is a whole number in the same
        section of the config. Of these grids the finest regular one is taken: an irregular one has values
        that the config accepts only because they round to a whole number.
        """
        if isinstance(value, int):
            return self._grid_with_divisor(config, value, 1)
        decimals = self._grid_with_divisor(config, value, 10 ** max(0, 3 - math.floor(math.log10(value))))
        if decimals is not None and decimals.step == 1:
            return decimals
        section = self._key.partition(".")[0] if "." in self._key else ""
        numbers = flatten(get(config, section) if section else config).values()
        divisors = dict.fromkeys(n for n in numbers if type(n) is int and 1 < n <= MAX_DIVISOR)
        grids = [grid for n in divisors if (grid := self._grid_with_divisor(config, value, n)) is not None]
        return min(grids, key=lambda grid: (not grid.is_regular, grid.step / grid.per), default=decimals)

    def _grid_with_divisor(self, config: dict[str, Any], value: float, per: int) -> _Grid | None:
        """The grid of multiples of 1 / per, if `value` lies on it and another of its values is feasible."""
        start = round(value * per)
        if abs(value * per - start) > 0.01 or start < 1:
            return None

        def size_of(index: int) -> float | None:
            setting = (self._key, _value_at(value, index, per))
            try:
                candidate = self._trainer.configure(config, [setting], "match")
            except SpecError:
                return None
            return self._described_size(candidate)

        grid = _Grid(start, per, size_of)
        return grid if grid.step else None

    def _approach(self, grid: _Grid, target: float) -> None:
        """Fill `grid.sizes` around the target. Raises SpecError if the size does not grow with the value."""
        inner, outer = self._bracket(grid, target)
        if len({size for size in grid.sizes.values() if size is not None}) == 1:
            raise SpecError(
                f"match.by: {self._key}: {SIZES[self._size_of][1]} are the same for every value: name a key "
                f"with which they grow"
            )
        inner, outer = _bisect(grid, target, inner, outer)
        for index in range(min(inner, outer) + 1, max(inner, outer)):
            grid.first_feasible((index,))

    def _bracket(self, grid: _Grid, target: float) -> tuple[int, int]:
        """Two indices with the target's between them, if it is reached: outwards from `start` in doubling
        steps."""
        sign = 1 if grid.size(grid.start) < target else -1
        inner, outer = grid.start, grid.start + sign * grid.step
        while abs(outer - grid.start) <= MAX_DISTANCE * grid.step:
            index = grid.first_feasible_towards(outer, outer + (outer - grid.start) + sign)
            if index is None:
                break
            if (grid.size(index) - grid.size(inner)) * sign < 0:
                raise SpecError(
                    f"match.by: {self._key}: {SIZES[self._size_of][1]} fall as it rises: name a key "
                    f"with which they grow"
                )
            outer = index
            if (grid.size(index) - target) * sign >= 0:
                break
            inner, outer = index, index + (index - grid.start)
        return inner, outer


def _bisect(grid: _Grid, target: float, inner: int, outer: int) -> tuple[int, int]:
    """Narrow the two indices to one step of the grid; `inner` is the one nearer to the grid's start."""
    sign = 1 if grid.size(grid.start) < target else -1
    while abs(outer - inner) > grid.step:
        middle = inner + (outer - inner) // (2 * sign * grid.step) * sign * grid.step
        index = grid.first_feasible_towards(middle, outer)
        if index is None:
            index = grid.first_feasible_towards(middle, inner)
        if index is not None and (grid.size(index) - target) * sign < 0:
            inner = index
        else:
            outer = middle if index is None else index
    return inner, outer


def _value_at(like: float, index: int, per: int) -> float:
    """The grid's value at `index`, of the type of `like`."""
    return index if isinstance(like, int) else index / per


def number_at(config: dict[str, Any], key: str) -> float | None:
    """The number at `key`; None if the config has no such key. Raises SpecError if it is not a number above
    0."""
    try:
        value = get(config, key)
    except KeyError:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise SpecError(
            f"match.by: {key}: is {value!r}, and only a number above 0 can be searched: name another key"
        )
    return value
