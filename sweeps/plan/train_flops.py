"""`match.train_flops`: how many samples each arm trains, so that all arms train with the same FLOPs.

The training FLOPs of a trial are its FLOPs a sample times its samples, which are rounded up to whole steps.
FLOPs a sample do not depend on the number of samples, so that nothing has to be searched.
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel

from sweeps.plan.trainer import Trainer
from sweeps.space.dotted import get
from sweeps.space.errors import SpecError
from sweeps.space.schema import SweepSpec


def training_flops(trainer: Trainer, config: BaseModel, description: dict[str, Any]) -> float:
    """The FLOPs of a whole trial. `description` is the config's, with flops_per_sample and horizon_key."""
    horizon, step = trainer.horizon(config, description), description.get("samples_per_step") or 1
    assert horizon is not None
    return float(description["flops_per_sample"] * math.ceil(horizon / step) * step)


class TrainFlops:
    """Finds the number of samples, at the config's `key`; used as `size_search.SizeSearch` is."""

    def __init__(self, key: str, trainer: Trainer) -> None:
        self._key, self._trainer = key, trainer

    def size(self, config: dict[str, Any]) -> float:
        """The training FLOPs of a config. Raises SpecError if the trainer does not describe them, or if `key`
        does not set a trial's length."""
        model = self._trainer.configure(config, [], "match")
        return training_flops(self._trainer, model, self._description(model))

    def nearest(self, config: dict[str, Any], target: float) -> tuple[float, float]:
        """The fewest samples in whole steps that take `target` FLOPs or more, and these FLOPs; the config's
        own number of samples if its FLOPs are the target. Raises SpecError if the warm-up is not shorter.

        Rounded up, as trainers do: a report at a share of a trial is then not just below the same share of
        `target`, where a rung may be.
        """
        model, key = self._trainer.configure(config, [], "match"), self._key
        known = self._description(model)
        if training_flops(self._trainer, model, known) == target:
            return get(config, key), target
        step = known.get("samples_per_step") or 1
        samples = step * math.ceil(target / (step * known["flops_per_sample"]))
        what, remedy = f"match.train_flops: {target:.4g} comes to {key} = {samples:,}", "raise train_flops"
        try:
            model = self._trainer.configure(config, [(key, samples)], what)
        except SpecError as error:
            raise SpecError(f"{error}; or {remedy}") from error
        known = self._description(model)
        warmup = known.get("warmup_samples") or 0
        if warmup >= samples:
            raise SpecError(f"{what}, but the warm-up lasts {warmup:,}: {remedy}, or shorten the warm-up")
        return samples, training_flops(self._trainer, model, known)

    def _description(self, config: BaseModel) -> dict[str, Any]:
        trainer, known = self._trainer, self._trainer.describe(config)
        wanted = {"flops_per_sample": "FLOPs a sample", "horizon_key": "key of a trial's length in samples"}
        for name, what in wanted.items():
            if not known.get(name):
                raise SpecError(
                    f"match.train_flops: trainer {trainer.name} does not say an arm's {what}: return {name} "
                    f"from describe(config) in its module, or remove match"
                )
        if known["horizon_key"] != self._key:
            raise SpecError(
                f"match.by: {self._key}: does not set how long a trial trains, by which train_flops is "
                f"matched: set match.by to {known['horizon_key']}"
            )
        return known


def check_scheduler(spec: SweepSpec) -> None:
    """Refuse a scheduler that measures trials in samples, as arms of equal training FLOPs have different
    numbers of them. Raises SpecError."""
    scheduler, match = spec.scheduler, spec.match
    if match is None or match.of != "train_flops":
        return
    if scheduler.stops and scheduler.time_attr != "flops":
        raise SpecError(
            f"scheduler.time_attr: is {scheduler.time_attr}, but under match.train_flops a trial's length "
            f"differs by arm in all but FLOPs: set time_attr to flops, and give grace_period in FLOPs"
        )
    if not scheduler.stops and scheduler.max_t is not None and match.size != "baseline":
        raise SpecError(
            f"scheduler.max_t: is {scheduler.max_t:g} samples, but match.train_flops ({match.size:g}) sets "
            f"those of every arm: remove max_t, or set train_flops to baseline, whose samples it is then"
        )
