"""`match`: every arm at one size, parameters or FLOPs a sample, by the value of one key of its config.

The size of a value is what the trainer's `describe` says of the config with it, and may only grow with the
value; which values are feasible is what the config accepts. Nothing else is known of a trainer, so that the
nearest feasible value is searched for: outwards in doubling steps, by bisection, and then one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from sweeps.dotted import flatten, get, overlap
from sweeps.errors import SpecError
from sweeps.space import Section
from sweeps.trainers import Trainer
from trm.messages import did_you_mean, dotted_keys

if TYPE_CHECKING:
    from sweeps.arms import Combination, Combiner
    from sweeps.spec import SweepSpec

FARTHEST = 2**20  # steps from the value that an arm has
LONGEST_STEP = 2048  # from one feasible value to the next
LONGEST_HOLE = 128  # steps in a row that may be infeasible before there is said to be no more
LARGEST_DIVISOR = 2**16
SIZES = {"params": ("num_params", "parameters"), "flops": ("flops_per_sample", "FLOPs a sample")}


def _size_or_baseline(given: Any) -> Any:
    if given is None or given == "baseline":
        return given
    if isinstance(given, bool) or not isinstance(given, int | float) or given <= 0:
        raise ValueError(f"must be a number above 0, or baseline, the first arm's (given {given!r})")
    return float(given)


Size = Annotated[Any, AfterValidator(_size_or_baseline)]


class Match(Section):
    """The size that every arm is to have, and the key that brings it there."""

    params: Size = None
    flops: Size = None  # of a sample
    by: str
    tolerance: float = Field(0.02, ge=0, lt=1)  # a share of the size
    on_unmatched: Literal["error", "mark"] = "error"

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.params is None) == (self.flops is None):
            given = "neither" if self.params is None else "both"
            raise ValueError(f"must have either params or flops (given {given}): such as params: 6.83e6")
        return self

    @property
    def of(self) -> Literal["params", "flops"]:
        return "params" if self.flops is None else "flops"

    @property
    def size(self) -> Any:
        return getattr(self, self.of)

    @property
    def said(self) -> str:
        """The size in words."""
        return f"the baseline's {SIZES[self.of][1]}" if self.size == "baseline" else _amount(self, self.size)


@dataclass(frozen=True)
class Matched:
    """What an arm came to. `value` is of the config's `key`, None where the arm has no such key; `off` is the
    size's signed deviation from the one that was asked for, as a share of it."""

    key: str
    value: float | None
    off: float
    matched: bool


def match_arms(spec: SweepSpec, combiner: Combiner, found: list[Combination]) -> dict[str, Matched]:
    """Set the key in every combination that has it; what each came to, by its name. Raises SpecError."""
    match = spec.match
    if match is None:
        return {}
    _refuse_rivals(match, spec)
    configs = [combiner.config(each) for each in found]
    _refuse_foreign_key(match, combiner.trainer, configs)
    search = _Search(match, combiner.trainer)
    target = search.size(configs[0]) if match.size == "baseline" else match.size
    results: dict[str, Matched] = {}
    for each, config in zip(found, configs, strict=True):
        value, size = search.nearest(config, target)
        if value is not None:
            each.settings[match.by] = ("match", value)
        off = size / target - 1
        results[each.name] = Matched(match.by, value, off, abs(off) <= match.tolerance)
    if match.on_unmatched == "error":
        _refuse_unmatched(match, results, target)
    return results


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


class _Search:
    """Over the feasible values of `match.by`; one search serves every arm."""

    def __init__(self, match: Match, trainer: Trainer) -> None:
        self._match, self._trainer = match, trainer

    def size(self, config: dict[str, Any]) -> float:
        return self._described(self._trainer.configure(config, [], "match"))

    def _described(self, config: BaseModel) -> float:
        name, what = SIZES[self._match.of]
        known = self._trainer.describe(config)
        if not known.get(name):
            raise SpecError(
                f"match.{self._match.of}: trainer {self._trainer.name} does not say an arm's {what}: return "
                f"{name} from describe(config) in its module, or remove match"
            )
        return float(known[name])

    def nearest(self, config: dict[str, Any], target: float) -> tuple[float | None, float]:
        """The feasible value whose size is nearest to `target`, and that size; of equally near values the one
        nearest to the config's own."""
        value, size = _value(config, self._match.by), self.size(config)
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
        section = self._match.by.partition(".")[0] if "." in self._match.by else ""
        beside = flatten(get(config, section) if section else config).values()
        parts = dict.fromkeys(n for n in beside if type(n) is int and 1 < n <= LARGEST_DIVISOR)
        grids = [grid for per in parts if (grid := self._grid_of(config, value, per)) is not None]
        return min(grids, key=lambda grid: (not grid.is_regular, grid.step / grid.per), default=decimals)

    def _grid_of(self, config: dict[str, Any], value: float, per: int) -> _Grid | None:
        start = round(value * per)
        if abs(value * per - start) > 0.01 or start < 1:
            return None

        def look(index: int) -> float | None:
            setting = (self._match.by, _of_index(value, index, per))
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
                    f"match.by: {self._match.by}: as it rises {SIZES[self._match.of][1]} fall: name a key "
                    f"with which they grow"
                )
            outer = found
            if (grid.at(found) - target) * way >= 0:
                break
            inner, outer = found, found + (found - grid.start)
        if len({size for size in grid.sizes.values() if size is not None}) == 1:
            raise SpecError(
                f"match.by: {self._match.by}: {SIZES[self._match.of][1]} are the same whatever it is: name a "
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


def _value(config: dict[str, Any], key: str) -> float | None:
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


def _refuse_foreign_key(match: Match, trainer: Trainer, configs: list[dict[str, Any]]) -> None:
    if any(_value(config, match.by) is not None for config in configs):
        return
    numbers = {
        key: None
        for config in configs
        for key, value in flatten(config).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    section = match.by.partition(".")[0]
    beside = [key for key in numbers if key.partition(".")[0] == section] or list(numbers)
    is_known = match.by in dotted_keys(trainer.config_model)
    hint = "name a number that some arm has," if is_known else f"{did_you_mean(match.by, beside)} Or one of"
    raise SpecError(f"match.by: {match.by}: no arm has this key: {hint} {', '.join(beside)}")


def _refuse_rivals(match: Match, spec: SweepSpec) -> None:
    """What else sets the key, or looks at it before it is known."""
    where = f"match.by: {match.by}"
    for name, factor in spec.ablate.items():
        if any(_holds(sets, match.by) for _, sets in factor.settings(name)):
            raise SpecError(f"{where}: is set by the factor {name} too: it can be one of the two")
        if any(overlap(path, match.by) for path in factor.when):
            raise SpecError(
                f"{where}: ablate.{name}.when looks at it, and it is not known before the arms are: name "
                f"another key in one of the two"
            )
    for name in spec.tune:
        if overlap(name, match.by):
            raise SpecError(f"{where}: is tuned too, which would change the size: it can be one of the two")


def _holds(sets: dict[str, Any], key: str) -> bool:
    """Whether a level says what is at `key`, itself or in a mapping that it sets."""
    return key in flatten(sets)


def _refuse_unmatched(match: Match, results: dict[str, Matched], target: float) -> None:
    lines = [
        f"  {name}: {_amount(match, (1 + each.off) * target)}, {deviation(each)}, "
        + (f"at {match.by} = {each.value:.6g}" if each.value is not None else f"and it has no {match.by}")
        for name, each in results.items()
        if not each.matched
    ]
    if lines:
        raise SpecError(
            f"match: {match.of}: not within {match.tolerance:.2%} of {_amount(match, target)}, at best:\n"
            + "\n".join(lines)
            + "\nraise match.tolerance, match by another key, or let them be marked (on_unmatched: mark)"
        )


def deviation(each: Matched) -> str:
    """ "+0.90%": of the size from the one that was asked for."""
    return f"{each.off:+.2%}"


def _amount(match: Match, size: float) -> str:
    what = SIZES[match.of][1]
    return f"{size:,.0f} {what}" if match.of == "params" else f"{size:.4g} {what}"
