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

from benchmarks.training_step import config_of, configs_of
from trm.config import TrialConfig
from trm.model import build_model
from trm.settings.overrides import override
from trm.settings.yaml import parse_scalar

PUBLISHED = Path(__file__).resolve().parent.parent / "search_spaces/base/trm_sudoku.yaml"
SMALL = ["model.hidden_size=128", "data.num_aug=0"]
SEEDS = (0, 1, 2)
PARTS = "[{kind: gated_deltanet, num_heads: 2, d_state: 16, head_dim: 32}, {kind: mamba3, expand: 0.625}]"
OTHERS = {  # what the defaults are there for
    "mamba3 without output_norm": "{kind: mamba3, output_norm: false}",
    **{
        f"parallel, beta_init {beta:g}": f"{{kind: parallel, beta_init: {beta:g}, mixers: {PARTS}}}"
        for beta in (1, 0.3)
    },
}
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


def others() -> dict[str, TrialConfig]:
    """The recipe with generated puzzles, as for the mixers, and each of OTHERS."""
    base = config_of(PUBLISHED, "mlp", SMALL).model_dump(mode="json")
    mixers = {name: parse_scalar(text) for name, text in OTHERS.items()}
    return {
        name: TrialConfig.model_validate(override(base, [("model.mixer", mixer)], TrialConfig))
        for name, mixer in mixers.items()
    }


def measure(configs: dict[str, TrialConfig]) -> dict[str, Any]:
    found = {}
    for kind, config in configs.items():
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
    found = {"default": measure(configs_of(PUBLISHED, SMALL))}
    for value in given.gains:
        found[f"{value:g}"] = measure(configs_of(PUBLISHED, [*SMALL, f"model.mixer.out_gain={value}"]))
    content = {"torch": str(torch.__version__), "by out_gain": found, "others": measure(others())}
    print(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
