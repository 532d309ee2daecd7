"""Measuring on a real Ray instance, where what is measured fails or hangs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.sweeps.spaces import write_space

MEASURE = """
import logging
import sys
from pathlib import Path
from sweeps.execute import cluster
from sweeps.plan import resources
from sweeps.plan.build import load_plan
cluster.local_resources = lambda count_gpus: resources.ClusterResources((resources.Node(2, 2),))
logging.basicConfig()
plan = load_plan(Path(sys.argv[1]))
cluster.connect(None, count_gpus=True)
try:
    for arm in plan.arms:
        cluster.MEASURE_S = 6 if arm.name == "case=hangs" else 90
        for name, cost in cluster.measure_arms(plan, [arm]):
            print(name, cost.peak_bytes)
finally:
    cluster.disconnect()
"""


def test_what_cannot_be_measured_or_hangs_is_passed_over(tmp_path: Path) -> None:
    raises = {f"raises{number}": {"needs_gb": -number} for number in (1, 2)}
    space = write_space(
        tmp_path,
        trainer="tests.sweeps.memory_trainer:train",
        base={},
        ablate={"case": {"levels": raises | {"hangs": {"hangs": True}, "good": {"needs_gb": 5}}}},
        seeds=[1],
        resources={"cpu": 0.5, "gpu": "auto"},
    )
    command = [sys.executable, "-c", MEASURE, str(space)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    nothing = [f"case={name} None" for name in (*raises, "hangs")]
    assert done.stdout.splitlines() == [*nothing, "case=good 5000000000"], done.stderr
    assert done.stderr.count("could not be measured") == 3
