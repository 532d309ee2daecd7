"""What a sweep has cost: time of cores and GPUs, and training FLOPs, of all its trials."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.sweep import Sweep


@dataclass(frozen=True)
class Spent:
    """Of all trials, those that were stopped or failed too. 0 where it is not known."""

    core_hours: float
    gpu_hours: float
    flops: float


def spent(sweep: Sweep) -> Spent:
    """Each trial's wall time by the cores and GPUs that it was given (by the space's `resources` where no
    journal says how many)."""
    asked = sweep.space.get("resources") or {}
    usual = tuple(asked[key] if isinstance(asked.get(key), int | float) else 0 for key in ("cpu", "gpu"))
    hours = sweep.trials["wall_s"].fillna(0) / 3600
    given = [sweep.allocated.get(trial_id, usual) for trial_id in sweep.trials["trial_id"]]
    cores, gpus = (sum(h * each[i] for h, each in zip(hours, given, strict=True)) for i in (0, 1))
    return Spent(float(cores), float(gpus), float(sweep.trials["flops"].sum()))
