"""How much a new network's loop amplifies: `python -m benchmarks.loop_gain [--gains 1.0 0.3]`.

The second supervision step of the published recipe at 128 channels, of untrained weights, is computed twice
in float64: from the states that the first one left, and with a change of 1e-5 (relative, 2-norm) to z_L. The
gain is how many times larger than that the change of the new states is. Where it is far above one, a study
compares how weights start, and rounding grows too. Printed as JSON: for each mixer and `out_gain` (the
default first) the gain for each seed, and the RMS of the first mixer's output for an input of RMS 1.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.training_step import configs_of
from trm.config import TrialConfig
from trm.model import build_model

PUBLISHED = Path(__file__).resolve().parent.parent / "search_spaces/base/trm_sudoku.yaml"
SMALL = ["model.hidden_size=128", "data.num_aug=0"]
SEEDS = (0, 1, 2)
ROWS = 2
CHANGE = 1e-5


@torch.no_grad()
def gain(config: TrialConfig, seed: int) -> tuple[float, float]:
    """The gain of the second supervision step, and the RMS of the first mixer's output."""
    model = build_model(config, seed, "cpu").double()
    model.forward_dtype = torch.float64
    generator = torch.Generator().manual_seed(seed)
    shape = config.data.shape
    x = model.embed_inputs(torch.randint(1, shape.vocab_size, (ROWS, shape.seq_len), generator=generator))
    z_H, z_L = model.deep_recursion(model.H_init.expand_as(x), model.L_init.expand_as(x), x)
    change = torch.randn(z_L.shape, generator=generator, dtype=torch.float64)
    change *= CHANGE * z_L.norm() / change.norm()
    one, other = (torch.stack(model.deep_recursion(z_H, z, x)) for z in (z_L, z_L + change))
    mixed = model.block.layers[0].mixers[0](torch.randn(x.shape, generator=generator, dtype=torch.float64))
    return ((one - other).norm() / change.norm()).item(), _rms(mixed)


def _rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


def measure(overrides: list[str]) -> dict[str, Any]:
    found = {}
    for kind, config in configs_of(PUBLISHED, [*SMALL, *overrides]).items():
        gains, sizes = zip(*(gain(config, seed) for seed in SEEDS), strict=True)
        mixer = config.model.mixer
        found[kind] = {
            "out_gain": getattr(mixer, "out_gain", None),
            "gain": [float(f"{value:.2g}") for value in gains],
            "rms": round(sum(sizes) / len(sizes), 3),
        }
    return found


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--gains", type=float, nargs="*", default=[1.0, 0.3], help="beside the default")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {"default": measure([])}
    found |= {f"{value:g}": measure([f"model.mixer.out_gain={value}"]) for value in given.gains}
    print(json.dumps({"torch": str(torch.__version__), "by out_gain": found}, indent=2))


if __name__ == "__main__":
    main()
