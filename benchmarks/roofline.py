"""What a training step asks of a GPU, by arithmetic and not by measurement: `python -m benchmarks.roofline`.

The trainer's own step (batch, forward, backward, optimizers, EMA), in bfloat16 and without torch.compile, on
a GPU without numbers (`benchmarks.traffic`): launches, bytes and FLOPs at the published recipe with each
mixer, and what they take at least on an H200: the larger of FLOPs / peak and bytes / bandwidth. Beside it the
launches at 5 us each, which a GPU can hide behind long kernels. Mamba twice: its scan as Triton's kernel, and
as PyTorch's loop, as where there is no Triton. Printed as JSON. Needs g++.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.traffic import StepTraffic, of_a_step
from benchmarks.training_step import configs_of
from trm.config import TrialConfig
from trm.cost import flops_per_sample

RECIPE = Path(__file__).resolve().parent.parent / "search_spaces/base/trm_sudoku.yaml"
FEW = ["data.num_train=64", "data.num_val=8", "data.num_test=8", "data.num_aug=1000"]
FLOPS_PER_S = 790e12  # of an H200's bfloat16 matrix products, dense, as measured elsewhere; 989e12 on paper
BYTES_PER_S = 4.0e12  # of its memory; 4.8e12 on paper
LAUNCH_S = 5e-6


def row(config: TrialConfig, traffic: StepTraffic) -> dict[str, Any]:
    flops = flops_per_sample(config) * config.train.batch_size
    by_flops, by_bytes = flops / FLOPS_PER_S, traffic.bytes / BYTES_PER_S
    return {
        "launches": traffic.launches,
        "gigabytes": round(traffic.bytes / 1e9, 1),
        "teraflop": round(flops / 1e12, 2),
        "saved_gib": round(traffic.saved / 2**30, 1),
        "ms_by_flops": round(1e3 * by_flops, 1),
        "ms_by_bytes": round(1e3 * by_bytes, 1),
        "ms_at_least": round(1e3 * max(by_flops, by_bytes), 1),
        "ms_of_launches": round(1e3 * traffic.launches * LAUNCH_S, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=RECIPE, help="another recipe (default: trm_sudoku)")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="PATH=VALUE")
    given = parser.parse_args()
    found = {}
    for kind, config in configs_of(given.config, [*FEW, *given.overrides]).items():
        found[kind] = row(config, of_a_step(config))
        if kind == "mamba":
            found["mamba, its scan in PyTorch"] = row(config, of_a_step(config, scan_in_torch=True))
    assumed = {"flops_per_s": FLOPS_PER_S, "bytes_per_s": BYTES_PER_S, "s_a_launch": LAUNCH_S}
    about = {"measured": False, "assumed": assumed, "torch": str(torch.__version__)}
    print(json.dumps(about | {"mixers": found}, indent=2))


if __name__ == "__main__":
    main()
