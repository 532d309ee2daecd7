"""`match`: gives every arm the same size (parameters, FLOPs per sample, or training FLOPs) by setting one key
of its config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweeps.plan.arms import ArmBuilder, ArmDraft
from sweeps.plan.size_search import SizeSearch, number_at
from sweeps.plan.train_flops import TrainFlops
from sweeps.plan.trainer import Trainer
from sweeps.space.dotted import overlap
from sweeps.space.errors import SpecError, SpecErrors
from sweeps.space.schema import Match, SweepSpec
from trm.settings.messages import did_you_mean, dotted_keys
from trm.settings.overrides import flatten


@dataclass(frozen=True)
class Matched:
    """The result for one arm.

    `value` is the value of the config's `key`, None if the arm has no such key; `size` is the size that it
    came to, and `off` its relative deviation from the target, with sign; `matched` is whether it is within
    the tolerance.
    """

    key: str
    value: float | None
    size: float
    off: float
    matched: bool


def match_arms(spec: SweepSpec, builder: ArmBuilder, drafts: list[ArmDraft]) -> dict[str, Matched]:
    """Set the key in every draft that has it. Returns the results by arm; {} without `match`. Call
    `refuse_rivals` before the drafts are made.

    Raises SpecError if the key cannot be used, or if an arm is not matched and `on_unmatched` is "error".
    """
    match = spec.match
    if match is None:
        return {}
    configs = [builder.config(draft) for draft in drafts]
    search: SizeSearch | TrainFlops
    if match.of == "train_flops":
        search = TrainFlops(match.by, builder.trainer)
    else:
        _refuse_unknown_key(match, builder.trainer, configs)
        search = SizeSearch(match.by, match.of, builder.trainer)
    target = search.size(configs[0]) if match.size == "baseline" else match.size
    results: dict[str, Matched] = {}
    errors = SpecErrors()
    for draft, config in zip(drafts, configs, strict=True):
        with errors.of(f"(arm {draft.name})"):
            try:
                value, size = search.nearest(config, target)
            except SpecError as error:
                raise SpecError(f"{error} (arm {draft.name})") from error
            if value is not None and value != number_at(config, match.by):
                draft.settings[match.by] = ("match", value)
            off = size / target - 1
            results[draft.name] = Matched(match.by, value, size, off, abs(off) <= match.tolerance)
    errors.raise_any()
    if match.on_unmatched == "error":
        _refuse_unmatched(match, results, target)
    return results


def target_of(match: Match, baseline: Matched) -> float:
    """The size that the arms were matched to."""
    return float(baseline.size if match.size == "baseline" else match.size)


def _refuse_unknown_key(match: Match, trainer: Trainer, configs: list[dict[str, Any]]) -> None:
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
    hint = "name a number that an arm has:" if is_known else f"{did_you_mean(match.by, beside)} Or one of"
    raise SpecError(f"match.by: {match.by}: no arm has this key: {hint} {', '.join(beside)}")


def refuse_rivals(spec: SweepSpec) -> None:
    """Raise SpecError if a factor or domain sets `match.by` too, or a factor's `when` depends on it."""
    match = spec.match
    if match is None:
        return
    where = f"match.by: {match.by}"
    for name, factor in spec.ablate.items():
        if any(match.by in flatten(sets) for _, sets in factor.settings(name)):
            raise SpecError(f"{where}: is set by the factor {name} too: a key can be only one of the two")
        if any(overlap(path, match.by) for path in factor.when):
            raise SpecError(
                f"{where}: ablate.{name}.when depends on it, but it is set after the arms are built: name "
                f"another key in one of the two"
            )
    for name in spec.tune:
        if overlap(name, match.by):
            raise SpecError(
                f"{where}: is tuned too, which would change the size: a key can be only one of the two"
            )


def _refuse_unmatched(match: Match, results: dict[str, Matched], target: float) -> None:
    lines = [
        f"  {name}: {match.amount(result.size)}, {deviation(result)}, "
        + (f"at {match.by} = {result.value:.6g}" if result.value is not None else f"and it has no {match.by}")
        for name, result in results.items()
        if not result.matched
    ]
    if lines:
        is_length = match.of == "train_flops"
        other = "give more training FLOPs (steps are whole)" if is_length else "match by another key"
        raise SpecError(
            f"match: {match.of}: not within {match.tolerance:.2%} of {match.amount(target)}, at best:\n"
            + "\n".join(lines)
            + f"\nraise match.tolerance, {other}, or only mark these arms (on_unmatched: mark)"
        )


def deviation(result: Matched) -> str:
    """The deviation of the size from the target, such as "+0.90%"."""
    return f"{result.off:+.2%}"
