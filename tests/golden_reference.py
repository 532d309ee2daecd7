"""Recordings of the reference's checkpoints: converted, written, read again, and run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.replay import Arrays, Comparison, as_array
from trm.reference_config import ALL_CONFIG
from trm.trained import export, load
from trm.use import from_reference


def replay_checkpoint(case: dict[str, Any], arrays: Arrays, folder: Path, compare: Comparison) -> None:
    """Logits and predictions after each recorded step, from the checkpoint as `convert` leaves it."""
    with tempfile.TemporaryDirectory() as place:
        config, converted = Path(place, ALL_CONFIG), Path(place, "converted")
        config.write_text("\n".join(case["all_config_yaml"]) + "\n")
        source = folder / case["checkpoint"]
        export(from_reference(source, config), converted)
        model = load(converted).model
    q_logits: list[torch.Tensor] = []
    model.q_head.register_forward_hook(lambda _module, _args, value: q_logits.append(value))
    inputs, labels, identifiers = (
        torch.from_numpy(arrays[name]) for name in ("inputs", "labels", "puzzle_identifiers")
    )
    recorded = {int(name.split("/")[0].removeprefix("step")) for name in arrays if name.startswith("step")}
    carry = model.initial_carry(len(inputs), "cpu")
    with torch.no_grad():
        for step in range(1, max(recorded) + 1):
            carry, output = model(carry, inputs, labels, identifiers=identifiers)
            carry.halted.zero_()
            if step not in recorded:
                continue
            where = f"step{step}"
            values = {
                "logits": output.logits,
                "q_halt_logits": output.q_halt_logits,
                "q_continue_logits": q_logits[-1][:, 1],
            }
            for name, value in values.items():
                compare.close(f"{where}/{name}", f"{where}/{name}", value, arrays[f"{where}/{name}"])
            _compare_predictions(where, output.logits, arrays, compare)


def _compare_predictions(where: str, logits: torch.Tensor, arrays: Arrays, compare: Comparison) -> None:
    """Equal wherever the two largest recorded logits are further apart than what was computed differs."""
    recorded = arrays[f"{where}/logits"]
    second, first = np.moveaxis(np.sort(recorded, axis=-1)[..., -2:], -1, 0)
    error = np.abs(as_array(logits) - recorded).max()
    is_clear = first - second > 2 * error
    computed = np.where(is_clear, as_array(logits).argmax(-1), arrays[f"{where}/preds"])
    compare.equal(f"{where}/preds", torch.from_numpy(computed), arrays[f"{where}/preds"])
