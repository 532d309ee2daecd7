"""The units of metrics: the YAML's for the objective, else those of the trainer's describe(). A name says
nothing about a unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from analysis.format import UNITS
from sweeps.space.errors import SpecError
from sweeps.space.schema import SweepSpec, UnitName

SLACK = 1e-9  # rounding may bring a value this far over a limit


def described_units(trainer: str, known: Mapping[str, Any]) -> dict[str, str]:
    """The `units` that describe() returned, by metric. Raises SpecError for one that is unknown."""
    units = known.get("units") or {}
    allowed = ", ".join(get_args(UnitName))
    if not isinstance(units, Mapping):
        raise SpecError(
            f"trainer: {trainer}: describe() returns units {units!r}: return a dict of metric and unit "
            f"({allowed})"
        )
    for metric, unit in units.items():
        if unit not in get_args(UnitName):
            raise SpecError(
                f"trainer: {trainer}: describe() gives {metric} the unit {unit!r}: give one of {allowed}"
            )
    return dict(units)


def resolved_units(spec: SweepSpec, described: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The unit of each metric that has one, and of the objective and its test counterpart in any case.

    `described` are the units that describe() returned for the base and for each arm. Raises SpecError for two
    that contradict each other, and for a margin or futility as wide as the objective's limits.
    """
    units: dict[str, str] = {}
    for each in described:
        for metric, unit in each.items():
            if units.setdefault(metric, unit) != unit:
                raise SpecError(
                    f"trainer: {spec.trainer}: describe() gives {metric} the unit {units[metric]} in one "
                    f"arm, and {unit} in another: give it one unit"
                )
    metric = spec.objective.metric
    unit = spec.objective.unit or units.get(metric, "none")
    for name in same_unit(metric):
        given = "objective.unit is" if spec.objective.unit else f"{metric} has the unit"
        if units.setdefault(name, unit) != unit:
            raise SpecError(
                f"objective.unit: {given} {unit}, but describe() of {spec.trainer} gives {name} the unit "
                f"{units[name]}: correct the wrong one, or leave objective.unit out"
            )
    low, high = UNITS[unit].limits
    for key in ("margin", "futility"):
        distance = getattr(spec.evidence, key)
        if distance is None or distance < high - low:
            continue
        raise SpecError(
            f"evidence.{key}: is {distance:g}, but {metric} is a {unit} ({low:g} to {high:g}), so that no "
            f"difference is larger: give it in the metric's own units ({0.01 * (high - low):g} is one point)"
        )
    return units


def same_unit(metric: str) -> list[str]:
    """The objective and, where it is of val, its counterpart on test, which has its unit."""
    return [metric, f"test/{metric.removeprefix('val/')}"] if metric.startswith("val/") else [metric]


def contradiction(metric: str, value: float, unit: str, described: bool) -> str:
    """Why the objective cannot have this value in its unit, and what to do; '' if it can.

    `described`: the unit is describe()'s, and not the YAML's.
    """
    low, high = UNITS[unit].limits
    if not (value < low - SLACK or value > high + SLACK):
        return ""
    fitting = "percent" if unit == "share" and 0 <= value <= 100 else "none"
    source, remedy = "objective.unit", f"set unit: {fitting}"
    if described:
        source, remedy = "its unit in describe()", f"let describe() give {fitting}"
    return f"{metric} is {value:g}, but {source} is {unit} ({low:g} to {high:g}): {remedy}"
