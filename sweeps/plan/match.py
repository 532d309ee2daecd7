"""`match`: every arm at one size, parameters or FLOPs a sample, by the value of one key of its config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweeps.plan.arms import ArmBuilder, ArmDraft
from sweeps.plan.size_search import SizeSearch, number_at
from sweeps.plan.trainer import Trainer
from sweeps.space.dotted import flatten, overlap
from sweeps.space.errors import SpecError
from sweeps.space.schema import Match, SweepSpec
from trm.settings.messages import did_you_mean, dotted_keys


@dataclass(frozen=True)
class Matched:
    """What an arm came to. `value` is of the config's `key`, None where the arm has no such key; `off` is the
    size's signed deviation from the one that was asked for, as a share of it."""

    key: str
    value: float | None
    off: float
    matched: bool


def match_arms(spec: SweepSpec, builder: ArmBuilder, found: list[ArmDraft]) -> dict[str, Matched]:
    """Set the key in every combination that has it; what each came to, by its name. Raises SpecError."""
    match = spec.match
    if match is None:
        return {}
    _refuse_rivals(match, spec)
    configs = [builder.config(each) for each in found]
    _refuse_foreign_key(match, builder.trainer, configs)
    search = SizeSearch(match.by, match.of, builder.trainer)
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


def _refuse_foreign_key(match: Match, trainer: Trainer, configs: list[dict[str, Any]]) -> None:
    if any(number_at(config, match.by) is not None for config in configs):
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
        f"  {name}: {match.amount((1 + each.off) * target)}, {deviation(each)}, "
        + (f"at {match.by} = {each.value:.6g}" if each.value is not None else f"and it has no {match.by}")
        for name, each in results.items()
        if not each.matched
    ]
    if lines:
        raise SpecError(
            f"match: {match.of}: not within {match.tolerance:.2%} of {match.amount(target)}, at best:\n"
            + "\n".join(lines)
            + "\nraise match.tolerance, match by another key, or let them be marked (on_unmatched: mark)"
        )


def deviation(each: Matched) -> str:
    """ "+0.90%": of the size from the one that was asked for."""
    return f"{each.off:+.2%}"
