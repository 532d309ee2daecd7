"""The cores and GPUs of each trial. Under `gpu: auto` its share of a GPU follows from its measured memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sweeps.plan.model import Arm, Plan
from sweeps.plan.resources import Allocation, Calibration, ClusterResources, Node
from sweeps.record.journal import Journal
from sweeps.record.state import SweepState
from sweeps.space.errors import SpecError

HEAD_ROOM = 1.2  # times the measured peak: memory fragments, and later batches may be larger than the first
UNKNOWN = ClusterResources((Node(1e9, 1e9),))  # before the nodes are known everything fits
MAX_ENLARGED = 2  # retries of a trial with a larger share, after it ran out of memory


class Placement:
    """Allocations from the plan and the sweep's state. New measurements are recorded in the journal."""

    def __init__(self, plan: Plan, state: SweepState, journal: Journal) -> None:
        self._arms = {arm.name: arm for arm in plan.arms}
        self._state = state
        self._journal = journal
        self.nodes = UNKNOWN  # alive and inspected; `sweeps.execute` keeps them up to date
        self.uninspected: set[str] = set()  # ids of nodes that are alive, and get trials once inspected
        self.excluded: set[str] = set()  # ids of nodes that get no more trials in this launch

    def allocation(self, trial_id: str) -> Allocation:
        """The trial's cores and GPUs: its arm's, or a larger share of a GPU after it ran out of memory."""
        trial = self._state.trials[trial_id]
        arm = self._arms[trial.arm]
        gpu = gpus(arm, self._state.shares)
        return Allocation(arm.cpu, gpu if trial.gpu is None else trial.gpu)

    # Nodes

    @property
    def usable(self) -> ClusterResources:
        """The nodes that may get trials."""
        return self.nodes.without(self.excluded)

    def is_alive(self, node: str) -> bool:
        return any(each.id == node for each in self.nodes.nodes)

    def host(self, node: str) -> str:
        """The name of the node with this id; '' if it is not alive."""
        return next((each.name for each in self.nodes.nodes if each.id == node), "")

    def fits(self, trial_id: str, nodes: Collection[str] | None = None) -> bool:
        """Whether the trial fits on a node that may get trials, and is among `nodes` if they are given, as
        long as nothing else runs there."""
        there = self.usable if nodes is None else self.usable.only(nodes)
        return there.concurrency(*self.allocation(trial_id)) > 0

    def arm_fits(self, arm: str) -> bool:
        """Whether a trial of the arm does."""
        return self.usable.concurrency(self._arms[arm].cpu, gpus(self._arms[arm], self._state.shares)) > 0

    def too_large(self) -> str:
        """Says of an arm with open trials that they fit on no node, and how large the nodes are; '' if all
        fit."""
        if self.uninspected and not self.usable.nodes and self._state.open:
            return f"trials wait for nodes that are still being inspected: {len(self.uninspected)}"
        for arm in dict.fromkeys(trial.arm for trial in self._state.open.values()):
            if not self.arm_fits(arm):
                needs = self._arms[arm].cpu, gpus(self._arms[arm], self._state.shares)
                return f"trials of {arm} wait for a larger node: {shortage(self.usable, *needs)}"
        return ""

    def can_spare(self, node: str) -> bool:
        """Whether every arm that fits on the node also fits on another that may get trials."""
        [this] = [each for each in self.nodes.nodes if each.id == node]
        others = self.usable.without({node})
        needs = [(arm.cpu, gpus(arm, self._state.shares)) for arm in self._arms.values()]
        return all(others.concurrency(*each) for each in needs if this.concurrency(*each))

    # Measured memory

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
    """Raise SpecError if the trials of an arm fit on no node of `available`. `where` names it in the
    message."""
    for arm in plan.arms:
        gpu = gpus(arm, {})
        if not available.concurrency(arm.cpu, gpu):
            raise SpecError(
                f"{plan.source}: a trial of {arm.name} does not fit on {where}: "
                f"{shortage(available, arm.cpu, gpu)}; lower it in the YAML (--set changes only the base), "
                f"or run on a larger machine"
            )


def shortage(available: ClusterResources, cpu: float, gpu: float) -> str:
    """What a trial needs that no single node has, and how much of it the largest node has."""
    enough_gpus = [node for node in available.nodes if node.gpu >= gpu]
    name, needed = ("cpu", cpu) if enough_gpus else ("gpu", gpu)
    nodes = enough_gpus or available.nodes
    if not nodes:
        return f"resources.{name} is {needed:g}, and there is no node"
    largest = max(nodes, key=lambda node: node.cpu if enough_gpus else node.gpu)
    has = largest.cpu if enough_gpus else largest.gpu
    who = f"the largest node, {largest.name}," if largest.name else "it"
    return f"resources.{name} is {needed:g}, but {who} has {has:g}"


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
