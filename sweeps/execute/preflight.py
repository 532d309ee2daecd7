"""One task on each node of a cluster before the first trial there: can it run this sweep's trials?"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from sweeps.decide.placement import gpus
from sweeps.decide.reuse import code_version
from sweeps.execute.failure import reason_of
from sweeps.execute.worker import check_gpu
from sweeps.plan.checks import data_configs, data_hash, joined
from sweeps.plan.model import Plan
from sweeps.plan.resources import ClusterResources, Node
from sweeps.plan.trainer import Trainer, import_trainer
from sweeps.space.errors import SpecError

LIMIT_S = 120.0  # of the wait for all nodes at the launch; imports on a network file system take long
DATA_S = 600.0  # of the trainer's look at one data on a node; the first one may download them


@dataclass(frozen=True)
class Expected:
    """What a node must have: the launching machine's code; a folder that it may write to ('': none, as the
    storage is a URL); and the data of these configs, whose hashes are `data`."""

    trainer: str
    code: tuple[str, str]
    folder: str
    sys_path: list[str]
    configs: tuple[dict[str, Any], ...] = ()
    data: str = ""


def expected(trainer: str, storage: str) -> Expected:
    """`storage` is the folder or URL of the sweep's files. A folder that is not there yet will be made in
    the nearest one that is."""
    there = "" if "://" in storage else str(_existing(Path(storage).resolve()))
    return Expected(trainer, _code(trainer), there, [path for path in sys.path if path])


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.exists())


def _code(trainer: str) -> tuple[str, str]:
    return code_version(trainer), code_version("sweeps")


def problem_of(expects: Expected, gpu: float) -> str:
    """Why this machine cannot run trials, each on so many GPUs; '' if it can."""
    sys.path.extend(path for path in expects.sys_path if path not in sys.path)
    try:
        trainer = import_trainer(expects.trainer)
        check_gpu(gpu)
    except Exception as error:  # of the trainer's imports
        return _first_line(error)
    if _code(expects.trainer) != expects.code:
        return "it has other code than the launching machine: bring it to the same version"
    if expects.folder and not os.access(expects.folder, os.W_OK | os.X_OK):
        return f"{expects.folder} is not there, or cannot be written to: mount the storage at the same path"
    return _problem_of_data(expects, trainer)


def _problem_of_data(expects: Expected, trainer: Trainer) -> str:
    """Why the trainer cannot use the data here, as trials will; '' if it can, and they are the launching
    machine's."""
    hashes: list[str] = []
    for config in expects.configs:
        answers: list[str | BaseException] = []
        reads = threading.Thread(target=_look_at_data, args=(trainer, config, answers), daemon=True)
        reads.start()
        reads.join(DATA_S)  # a file system that hangs would keep the node uninspected, and nobody told
        if not answers:
            return f"check(config) has not ended after {DATA_S:g} s: see whether the data can be read there"
        if isinstance(answers[0], BaseException):
            return _first_line(answers[0])
        hashes.append(answers[0])
    if joined(hashes) != expects.data:
        return "its data are not those of the launching machine: bring them to the same version"
    return ""


def _look_at_data(trainer: Trainer, config: dict[str, Any], answers: list[str | BaseException]) -> None:
    try:
        answers.append(data_hash(trainer, trainer.config_model.model_validate(config)))
    except BaseException as error:  # a thread's error would be printed, and lost
        answers.append(error)


def _first_line(error: BaseException) -> str:
    return reason_of(error).splitlines()[0]


class Preflight:
    """Runs the tasks, once on each node, and knows which nodes have passed. `data` are the hashes of the
    plan's data on this machine."""

    def __init__(self, plan: Plan, storage: str, data: str) -> None:
        configs = tuple(config.model_dump(mode="json") for config in data_configs(plan))
        self._expects = replace(expected(plan.spec.trainer, storage), configs=configs, data=data)
        self._gpu = min((gpus(arm, {}) for arm in plan.arms if gpus(arm, {})), default=0.0)
        self._tasks: dict[str, ray.ObjectRef[str]] = {}
        # Of each node that was inspected; '' if it passed. The driver's own has what the driver has.
        self._problems: dict[str, str] = {ray.get_runtime_context().get_node_id(): ""}

    def wait(self, nodes: ClusterResources, address: str, told_to_end: Callable[[], bool]) -> None:
        """Inspect these nodes of the cluster at `address`, for at most LIMIT_S or until `told_to_end` returns
        True. Raises SpecError if each has answered that it cannot run trials. One that has not answered may
        be busy: it gets trials once it has."""
        deadline = time.monotonic() + LIMIT_S
        able = [node for node in nodes.nodes if node.cpu]  # not a head that is to run none
        while self._inspected(able) < len(able) and time.monotonic() < deadline and not told_to_end():
            time.sleep(0.2)
        found = [self._problems.get(node.id, "") for node in able]
        if able and all(found):
            raise SpecError(
                f"--address {address}: no node of the cluster can run trials; {able[0].name}: {found[0]}; "
                f"mend that on a node, or leave --address out to run on this machine"
            )

    def passed(self, nodes: ClusterResources, failed: Callable[[str, str], None]) -> ClusterResources:
        """These nodes without those that are still being inspected. `failed` is called with the id of each
        that has failed, and why."""
        self._inspected(list(nodes.nodes))
        for node in nodes.nodes:
            if problem := self._problems.get(node.id):
                failed(node.id, problem)
        return nodes.without({node.id for node in nodes.nodes if node.id not in self._problems})

    def _inspected(self, nodes: list[Node]) -> int:
        """Start the tasks of nodes that have none, and take in the answers. Returns how many have one."""
        for node in nodes:
            if node.id in self._problems:
                continue
            if node.id not in self._tasks:
                self._tasks[node.id] = self._start(node)
            elif ray.wait([self._tasks[node.id]], timeout=0)[0]:
                try:
                    self._problems[node.id] = ray.get(self._tasks[node.id])
                except Exception as error:  # its worker cannot start, or cannot read this function
                    self._problems[node.id] = reason_of(error).splitlines()[-1]
        return sum(node.id in self._problems for node in nodes)

    def _start(self, node: Node) -> ray.ObjectRef[str]:
        gpu = min(self._gpu, 1.0) if node.gpu else 0.0
        there = {"ray.io/node-id": node.id}
        task = ray.remote(num_cpus=0, num_gpus=gpu, max_calls=1, label_selector=there)(problem_of)
        started: ray.ObjectRef[str] = task.remote(self._expects, gpu)
        return started
