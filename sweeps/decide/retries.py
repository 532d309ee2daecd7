"""Failures of the infrastructure: a trial whose worker or node died is tried again, later and elsewhere.

They are no failures of the trainer and are not counted as such. Two breakers keep them from eating the sweep:
one excludes a node, the other ends the launch. A report ends every row of failures that it speaks against.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from sweeps.decide.placement import Placement
from sweeps.record.journal import Journal
from sweeps.record.state import LOST, SweepState

FIRST_WAIT_S = 5.0  # before a lost trial is tried again; doubled with each loss
MAX_LOST = 5  # losses of a trial in a row, with no new step in between; one more ends it
NODE_ROW = 3  # failures in a row on a node, with no report from it in between, that exclude it
SWEEP_ROW = 5  # trials lost in a row in the whole sweep, or twice the nodes if that is more, that end it


class Retries:
    """Knows the nodes on which trials run, from `started`, `reported` and `lost`.

    `gave_up` is why the launch is to end, '' while it is not. `clock` returns seconds.
    """

    def __init__(
        self, state: SweepState, placement: Placement, journal: Journal, clock: Callable[[], float]
    ) -> None:
        self._state = state
        self._placement = placement
        self._journal = journal
        self._clock = clock
        self._node: dict[str, str] = {}  # trial -> the node on which it started last
        self._not_before: dict[str, float] = {}  # trial -> when it may be tried again
        self._row_on: dict[str, int] = defaultdict(int)  # node -> failures since its last report
        self._row: set[str] = set()  # trials lost since the sweep's last report; nodes that died count once
        self.gave_up = ""

    def waits(self, trial_id: str) -> bool:
        """Whether the trial was lost so recently that others go first."""
        return trial_id in self._not_before and self._clock() < self._not_before[trial_id]

    def nodes(self, trial_id: str) -> list[str]:
        """The ids of the nodes on which the trial may run: not the one on which it was lost, if it fits on
        another. A node that joins later is not among them, as nobody has inspected it."""
        usable = self._placement.usable
        if trial_id in self._not_before:
            elsewhere = usable.without({self._node.get(trial_id, "")})
            if elsewhere.concurrency(*self._placement.allocation(trial_id)):
                usable = elsewhere
        return sorted(node.id for node in usable.nodes)

    def started(self, trial_id: str, node: str) -> None:
        self._node[trial_id] = node

    def reported(self, trial_id: str) -> None:
        self._row_on.pop(self._node.get(trial_id, ""), None)
        self._row.clear()

    def lost(
        self, trial_id: str, reason: str, node: str = "", log: str = "", has_trained: bool = True
    ) -> str | None:
        """Count the loss of a trial, and record its retry. `node` is needed where it had not started.

        Returns None, or the cause of its end if it was lost too often for another retry: LOST if its node
        has died or the trainer had not begun, else '', the trainer's, as with one that crashes its process or
        needs too much memory. Where no open trial is left that can begin, the launch ends, and no trial.
        """
        trial = self._state.trials[trial_id]
        node = self._node[trial_id] = node or self._node.get(trial_id, "")
        lives = self._placement.is_alive(node)
        self._count(trial_id, node, lives, reason)
        if trial.lost >= MAX_LOST:
            if has_trained:
                return "" if lives else LOST
            if not self._state.open.keys() <= self._row:
                return LOST
            self._give_up(reason)
        more = {"log": log} if log else {}
        self._journal.append("retry", trial_id=trial_id, reason=reason, cause=LOST, node=node, **more)
        self._not_before[trial_id] = self._clock() + FIRST_WAIT_S * 2 ** (trial.lost - 1)
        return None

    def _count(self, trial_id: str, node: str, lives: bool, reason: str) -> None:
        """Take a failure into the rows, and let the breakers act."""
        if node in self._placement.excluded:  # what was still running there says nothing new
            return
        self._row.add(node if node and not lives else trial_id)
        if lives:
            self._row_on[node] += 1
            if self._row_on[node] >= NODE_ROW and self._placement.can_spare(node):
                self.exclude(node, f"{NODE_ROW} failures in a row; the last: {reason}")
        limit = max(SWEEP_ROW, 2 * len(self._placement.nodes.nodes))
        if len(self._row) >= limit:
            self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        self.gave_up = (
            f"{len(self._row)} trials in a row were lost with their worker or node, and none reported in "
            f"between; the last: {reason}"
        )

    def exclude(self, node: str, why: str) -> None:
        """Give the node no more trials in this launch, and record a warning that says why."""
        self._placement.excluded.add(node)
        text = (
            f"node {self._placement.host(node)} ({node[:8]}) gets no more trials in this launch: {why}; mend "
            f"the node: the next launch tries it again"
        )
        self._journal.warn(text)
