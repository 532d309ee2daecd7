"""The Ray cluster that a launch works on: one of its own on this machine, or one that is there already."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# Before ray is imported. Without the first, every part of a local Ray instance listens on all interfaces.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Where a machine is short of memory, whoever takes it, Ray ends workers, which Tune takes for an error of its
# own and breaks off the sweep. Where the kernel ends one, the trial is tried again.
os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_WARN_THRESHOLD_S", "10")


import ray

from sweeps.execute.measure import measure
from sweeps.plan.model import Arm, Plan
from sweeps.plan.resources import Calibration, ClusterResources, local_resources
from sweeps.space.errors import SpecError

logger = logging.getLogger(__name__)

MEASURE_S = 600.0  # for a few steps, compilation included


def connect(address: str | None, count_gpus: bool) -> ClusterResources:
    """Start a Ray instance of our own on the loopback, or join the cluster at `address`.

    Returns what there is. Raises SpecError where the cluster cannot be reached.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address is None:
        here = local_resources(count_gpus)
        ray.init(
            address="local",
            num_cpus=int(here.cpu),
            num_gpus=int(here.gpu),
            include_dashboard=False,
            **quiet,
        )
    else:
        try:
            _check_reachable(address)
            ray.init(address=address, **quiet)
        except Exception as error:  # Ray raises many kinds, by what is wrong with the address
            reason = " ".join(str(error).split())[:200]
            raise SpecError(
                f"--address {address}: no Ray cluster can be joined there ({reason}): start one with "
                f"`ray start --head`; if there is one, give its token (RAY_AUTH_MODE, see docs/cluster.md); "
                f"or leave --address out to run on this machine"
            ) from error
    # Ray prints a paragraph over the live table when a worker dies. No setting stops it; in the log it helps.
    ray._private.worker.print_worker_logs = lambda data, *_: logger.warning(
        "ray: %s", " ".join(data["lines"])
    )
    total = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return ClusterResources(total.get("CPU", 0.0), total.get("GPU", 0.0))


def _check_reachable(address: str) -> None:
    """Raise OSError where nobody listens at host:port, which Ray would wait for for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def disconnect() -> None:
    """Leave the cluster; the Ray instance that `connect` started ends here."""
    if ray.is_initialized():
        ray.shutdown()


def measure_arms(
    plan: Plan, arms: Iterable[Arm], interrupted: Callable[[], bool] = lambda: False
) -> Iterator[tuple[str, Calibration]]:
    """Time and memory of a few steps of a trial of each arm, one after the other, each in a fresh process
    that has a GPU to itself where the arm wants one. Ray must be connected.

    What breaks off or takes too long is not measured: that is no reason not to run it.
    """
    for arm in arms:
        first = next(iter(plan.draws(arm)), None)
        values = (
            first.values if first is not None else {n: d.ends[0] for n, d in arm.tune.items() if not d.when}
        )
        config = plan.trainer.configure(arm.config, values.items(), arm.name).model_dump(mode="json")
        task = ray.remote(num_cpus=arm.cpu, num_gpus=1 if arm.gpu else 0, max_calls=1)(measure)
        path = [path for path in sys.path if path]
        device = "cuda:0" if arm.gpu else "cpu"
        answer = task.remote(plan.spec.trainer, config, device, arm.cpu, path)
        deadline = time.monotonic() + MEASURE_S
        while not ray.wait([answer], timeout=0.5)[0]:
            if interrupted():
                return
            if time.monotonic() > deadline:
                # Only here, while it runs: Ray may abort this process where a task that is over is cancelled.
                ray.cancel(answer, force=True)
                break
        found = Calibration()
        try:
            found = ray.get(answer, timeout=30)
        except Exception as error:
            logger.warning("%s could not be measured (%s)", arm.name, error)
        yield arm.name, found
