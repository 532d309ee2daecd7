"""What each trial is given to run on; under `gpu: auto` the share of a GPU whose memory it needs."""

from __future__ import annotations

from collections.abc import Mapping

from sweeps.plan.model import Arm, Plan
from sweeps.plan.resources import Allocation, Calibration, ClusterResources
from sweeps.record.journal import Journal
from sweeps.record.state import SweepState
from sweeps.space.errors import SpecError

HEAD_ROOM = 1.2  # times the peak that was measured: fragments, and batches that are larger than the first
MOST_TRIES = 2  # with a larger share, after memory ran out


class Placement:
    """Answers from the plan and the sweep's state, and notes in the journal what it learns."""

    def __init__(self, plan: Plan, state: SweepState, journal: Journal) -> None:
        self._arms = {arm.name: arm for arm in plan.arms}
        self._state = state
        self._journal = journal

    def of(self, trial_id: str) -> Allocation:
        """What the trial is given: as its arm says, and where memory ran out a larger share of a GPU."""
        trial = self._state.trials[trial_id]
        arm = self._arms[trial.arm]
        gpu = gpus(arm, self._state.shares)
        return Allocation(arm.cpu, gpu if trial.gpu is None else trial.gpu)

    def to_measure(self) -> list[Arm]:
        """Arms under `gpu: auto` of whose memory nothing is known yet."""
        auto = [arm for arm in self._arms.values() if arm.gpu == "auto"]
        return [arm for arm in auto if arm.name not in self._state.shares]

    def measured(self, arm: str, cost: Calibration) -> None:
        """Note a trial's peak memory, and what share of a GPU follows."""
        found = {"peak_bytes": cost.peak_bytes, "total_bytes": cost.total_bytes, "gpu": share_for(cost)}
        self._journal.append("measured", arm=arm, **found)

    def enlarge(self, trial_id: str, reason: str) -> bool:
        """Whether a trial that ran out of memory is tried again with a larger share, which is noted then."""
        trial, share = self._state.trials[trial_id], self.of(trial_id).gpu
        if self._arms[trial.arm].gpu != "auto" or trial.enlarged >= MOST_TRIES or share >= 1:
            return False
        self._journal.append("retry", trial_id=trial_id, reason=reason, gpu=larger_share(share))
        return True


def concurrency_by_arm(
    plan: Plan, asked: int | None, there: ClusterResources, shares: Mapping[str, float] | None = None
) -> dict[str, int]:
    """How many trials of each arm run side by side, if all are of that arm: as many as fit, and no more than
    `asked` for or the space's `max_concurrent`."""
    bound = asked if asked is not None else plan.spec.max_concurrent
    found = {arm.name: there.concurrency(arm.cpu, gpus(arm, shares or {})) for arm in plan.arms}
    return found if bound == "auto" else {name: min(n, int(bound)) for name, n in found.items()}


def check_fits(plan: Plan, there: ClusterResources, where: str) -> None:
    """Raise SpecError where the trials of an arm could never start."""
    for arm in plan.arms:
        gpu = gpus(arm, {})
        if not there.concurrency(arm.cpu, gpu):
            name, asked, has = ("gpu", gpu, there.gpu) if gpu > there.gpu else ("cpu", arm.cpu, there.cpu)
            raise SpecError(
                f"{plan.source}: resources.{name} is {asked:g} a trial of {arm.name}, but {where} has "
                f"{has:g}: lower it (--set does not reach resources: edit the YAML), or run where there is "
                f"more"
            )


def gpus(arm: Arm, shares: Mapping[str, float]) -> float:
    """GPUs of a trial of the arm; `shares` are those that were measured."""
    return shares.get(arm.name, 1.0) if arm.gpu == "auto" else float(arm.gpu)


def share_for(cost: Calibration) -> float:
    """As many trials a GPU as fit with head-room, no more than 16; one where the peak is not known."""
    if not cost.peak_bytes or not cost.total_bytes:
        return 1.0
    return _one_of(int(cost.total_bytes / (cost.peak_bytes * HEAD_ROOM)))


def larger_share(share: float) -> float:
    """Half as many trials a GPU."""
    return _one_of(int(1 / share + 1e-9) // 2)


def _one_of(trials: int) -> float:
    return 1 / min(16, max(1, trials))
