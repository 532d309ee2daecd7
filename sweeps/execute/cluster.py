"""Starts Ray on this machine or joins an existing cluster, and measures arms on it."""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import psutil
import ray

from sweeps.execute.held_signals import signals_held
from sweeps.execute.measure import measure
from sweeps.execute.private import PrivateFolder, make_token, remove_token
from sweeps.plan.model import Arm, Plan
from sweeps.plan.resources import Calibration, ClusterResources, Node, local_resources
from sweeps.space.errors import SpecError

logger = logging.getLogger(__name__)

MEASURE_S = 600.0  # limit for the few steps of one arm, including compilation

_folders: list[PrivateFolder] = []  # of the Ray instance that `connect` started


def connect(address: str | None, count_gpus: bool) -> ClusterResources:
    """Start a local Ray instance that listens on the loopback only, or join the cluster at `address`.

    Returns the nodes; on this machine its GPUs are counted only if `count_gpus`.
    Raises SpecError if the cluster cannot be reached.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address is None:
        local = local_resources(count_gpus)
        make_token()
        _folders.append(PrivateFolder())
        with signals_held():
            ray.init(
                address="local",
                num_cpus=int(local.cpu),
                num_gpus=int(local.gpu),
                include_dashboard=False,
                _temp_dir=str(_folders[-1].for_ray),
                **quiet,
            )
    else:
        try:
            _check_reachable(address)
            ray.init(address=address, **quiet)
        except Exception as error:  # Ray raises many kinds of errors here
            reason = " ".join(str(error).split())[:200]
            raise SpecError(
                f"--address {address}: no Ray cluster can be joined there ({reason}): start one with "
                f"`ray start --head`; if there is one, give its token (RAY_AUTH_MODE, see docs/cluster.md); "
                f"or leave --address out to run on this machine"
            ) from error
    # Ray prints over the live table when a worker dies, and has no setting to stop it. Write to the log
    # instead.
    ray._private.worker.print_worker_logs = lambda data, *_: logger.warning(
        "ray: %s", " ".join(data["lines"])
    )
    return nodes()


def nodes() -> ClusterResources:
    """The nodes of the cluster that are alive."""
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return ClusterResources(
        tuple(
            Node(
                node["Resources"].get("CPU", 0.0),
                node["Resources"].get("GPU", 0.0),
                node["NodeID"],
                node["NodeManagerHostname"],
            )
            for node in alive
        )
    )


def node_of(actor_id: str) -> str:
    """The id of the node on which the actor runs or ran; '' if it never had one."""
    found: dict[str, Any] = ray._private.state.actors(actor_id)  # the public way needs Ray's dashboard
    return str(found.get("Address", {}).get("NodeID", ""))


def _check_reachable(address: str) -> None:
    """Raise OSError if nothing listens at host:port; Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def disconnect() -> None:
    """Leave the cluster. A Ray instance that `connect` started is stopped, and its files are removed."""
    with _killed_at_once() if _folders else nullcontext():
        ray.shutdown()  # also of an instance whose start failed half-way
    remove_token()
    while _folders:
        _folders.pop().remove()


@contextmanager
def _killed_at_once() -> Iterator[None]:
    """Let Ray's shutdown kill the processes that it started. They do not hear SIGTERM (`signals_held`), and
    it would wait a second for each. Those that they started in turn, which would notice later, end too."""
    node: Any = ray._private.worker._global_node
    if node is None:
        yield
        return
    kill = node.kill_all_processes
    node.kill_all_processes = lambda **options: kill(**{**options, "allow_graceful": False})
    pids = [info.process.pid for infos in node.all_processes.values() for info in infos]
    family = []
    for pid in pids:
        with suppress(psutil.Error):
            family += psutil.Process(pid).children(recursive=True)
    try:
        yield
    finally:
        for process in family:
            with suppress(psutil.Error):
                process.kill()


def measure_arms(
    plan: Plan, arms: Iterable[Arm], interrupted: Callable[[], bool] = lambda: False
) -> Iterator[tuple[str, Calibration]]:
    """Yield each arm's name with the time and memory of a few steps of one trial. Ray must be connected.

    Arms are measured one after the other, each in a fresh process that has a whole GPU if the arm uses any.
    If the steps fail or take longer than MEASURE_S, the Calibration is empty: the arm can still be run. Stops
    early if `interrupted` returns True.
    """
    for arm in arms:
        task = ray.remote(num_cpus=arm.cpu, num_gpus=1 if arm.gpu else 0, max_calls=1)(measure)
        sys_path = [path for path in sys.path if path]
        device = "cuda:0" if arm.gpu else "cpu"
        result = task.remote(plan.spec.trainer, _example_config(plan, arm), device, arm.cpu, sys_path)
        deadline = time.monotonic() + MEASURE_S
        while not ray.wait([result], timeout=0.5)[0]:
            if interrupted():
                return
            if time.monotonic() > deadline:
                # Cancel only while it runs: Ray may abort this process if the task has already ended.
                ray.cancel(result, force=True)
                break
        calibration = Calibration()
        try:
            calibration = ray.get(result, timeout=30)
        except Exception as error:
            logger.warning("%s could not be measured (%s)", arm.name, error)
        yield arm.name, calibration


def _example_config(plan: Plan, arm: Arm) -> dict[str, Any]:
    """The config of the arm's first draw; if no draw is known yet, with one end of each domain."""
    draw = next(iter(plan.draws(arm)), None)
    if draw is not None:
        values = draw.values
    else:
        values = {name: domain.ends[0] for name, domain in arm.tune.items() if not domain.when}
    return plan.trainer.configure(arm.config, values.items(), arm.name).model_dump(mode="json")
