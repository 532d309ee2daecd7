"""Compiles the Triton scan for GPUs on a machine that has none; `test_scan_triton.py` runs this file.

The functions that launch the kernels are called as for a GPU, on tensors of the CPU, but each launch ends
with the compiled code. Prints a line of JSON for each: what was compiled, for which compute capability, the
registers of a thread and the bytes that did not fit in them.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from trm.mixers.kernels import scan_triton

SHAPES = [(2, 97, 640, 16), (2, 916, 640, 128), (2, 9, 33, 5), (1, 1, 1, 1)]
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


class Driver:
    """Stands in for the driver of a GPU."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability  # compiled code is kept by device

    def get_current_stream(self, device: int) -> int:
        return 0


def registers(cubin: bytes) -> dict[str, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(CUOBJDUMP), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", text))
    return {"registers": int(found["REG"]), "spilled": int(found["STACK"]) + int(found["LOCAL"])}


def main(capabilities: list[int]) -> None:
    launch = JITFunction.run

    def compile_only(self, *args, warmup, **kwargs):
        kernel = launch(self, *args, warmup=True, **kwargs)
        said = {"kernel": self.__name__, "shape": shape, "dtype": str(dtype), "capability": capability}
        print(json.dumps(said | registers(kernel.asm["cubin"])))

    JITFunction.run = compile_only
    for capability in capabilities:
        triton.runtime.driver.set_active(Driver(capability))
        for shape, dtype in zip(SHAPES, [torch.bfloat16, torch.float32] * len(SHAPES), strict=False):
            rows, length, channels, states = shape
            x, B = (
                torch.zeros(rows, length, channels, dtype=dtype),
                torch.zeros(rows, length, states, dtype=dtype),
            )
            inputs = (x, x.float(), torch.zeros(channels, states), B, B, torch.zeros(channels))
            y, checkpoints = scan_triton.scan(inputs, False, 10)
            scan_triton.gradients(inputs, y, checkpoints, True, 10)


if __name__ == "__main__":
    main([int(capability) for capability in sys.argv[1:]])
