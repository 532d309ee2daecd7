"""The cores and GPUs of each trial. Under `gpu: auto` its share of a GPU follows from its measured memory."""

from __future__ import annotations

from collections.abc import Mapping

from sweeps.plan.model import Arm, Plan
from sweeps.plan.resources import Allocation, Calibration, ClusterResources
from sweeps.record.journal import Journal
from sweeps.record.state import SweepState
from sweeps.space.errors import SpecError

HEAD_ROOM = 1.2  # times the measured peak: memory fragments, and later batches may be larger than the first
MAX_ENLARGED = 2  # retries of a trial with a larger share, after it ran out of memory


class Placement:
    """Allocations from the plan and the sweep's state. New measurements are recorded in the journal."""

    def __init__(self, plan: Plan, state: SweepState, journal: Journal) -> None:
        self._arms = {arm.name: arm for arm in plan.arms}
        self._state = state
        self._journal = journal

    def allocation(self, trial_id: str) -> Allocation:
        """The trial's cores and GPUs: its arm's, or a larger share of a GPU after it ran out of memory."""
        trial = self._state.trials[trial_id]
        arm = self._arms[trial.arm]
        gpu = gpus(arm, self._state.shares)
        return Allocation(arm.cpu, gpu if trial.gpu is None else trial.gpu)

    def arms_to_measure(self) -> list[Arm]:
        """The arms under `gpu: auto` whose memory has not been measured yet."""
        auto = [arm for arm in self._arms.values() if arm.gpu == "auto"]
        return [arm for arm in auto if arm.name not in self._state.shares]

    def record_measurement(self, arm: str, cost: Calibration) -> None:
        """Record the peak memory of a trial of the arm, and the share of a GPU that follows from it."""
        fields = {"peak_bytes": cost.peak_bytes, "total_bytes": cost.total_bytes, "gpu": share_for(cost)}
        self._journal.append("measured", arm=arm, **fields)

    def retry_with_larger_share(self, trial_id: str, reason: str) -> bool:
        """Record a retry with a larger share of a GPU, for a trial that ran out of memory. Returns False, and
        records nothing, if its share is fixed, is a whole GPU, or was enlarged MAX_ENLARGED times."""
        trial, share = self._state.trials[trial_id], self.allocation(trial_id).gpu
        if self._arms[trial.arm].gpu != "auto" or trial.enlarged >= MAX_ENLARGED or share >= 1:
            return False
        self._journal.append("retry", trial_id=trial_id, reason=reason, gpu=larger_share(share))
        return True


def concurrency_by_arm(
    plan: Plan,
    max_concurrent: int | None,
    available: ClusterResources,
    shares: Mapping[str, float] | None = None,
) -> dict[str, int]:
    """How many trials of each arm can run at once if all are of that arm: as many as fit into `available`,
    and at most `max_concurrent`, or without it the space's own limit. `shares` of a GPU are the measured
    ones."""
    limit = max_concurrent if max_concurrent is not None else plan.spec.max_concurrent
    fitting = {arm.name: available.concurrency(arm.cpu, gpus(arm, shares or {})) for arm in plan.arms}
    return fitting if limit == "auto" else {name: min(n, int(limit)) for name, n in fitting.items()}


def check_fits(plan: Plan, available: ClusterResources, where: str) -> None:
    """Raise SpecError if the trials of an arm need more than `available`. `where` names it in the message."""
    for arm in plan.arms:
        gpu = gpus(arm, {})
        if not available.concurrency(arm.cpu, gpu):
            too_few_gpus = gpu > available.gpu
            name, needed = ("gpu", gpu) if too_few_gpus else ("cpu", arm.cpu)
            has = available.gpu if too_few_gpus else available.cpu
            raise SpecError(
                f"{plan.source}: resources.{name} is {needed:g} a trial of {arm.name}, but {where} has "
                f"{has:g}: lower it in the YAML (--set changes only the base), or run on a larger machine"
            )


def gpus(arm: Arm, shares: Mapping[str, float]) -> float:
    """The GPUs of a trial of the arm. Under `gpu: auto`: its measured share, or a whole GPU before that."""
    return shares.get(arm.name, 1.0) if arm.gpu == "auto" else float(arm.gpu)


def share_for(cost: Calibration) -> float:
    """The share of a GPU at which as many trials as possible fit with head-room, at most 16 a GPU; a whole
    GPU if the peak was not measured."""
    if not cost.peak_bytes or not cost.total_bytes:
        return 1.0
    return _share(int(cost.total_bytes / (cost.peak_bytes * HEAD_ROOM)))


def larger_share(share: float) -> float:
    """The share of a GPU with half as many trials on it."""
    return _share(int(1 / share + 1e-9) // 2)


def _share(trials: int) -> float:
    return 1 / min(16, max(1, trials))
