"""python -m tests.replay DIR: repeat recordings of reference implementations with this project's code.

A recording is NAME.json (configuration, scalars, tolerances) beside NAME.npz (weights, inputs, results). What
it is of is read from its keys, not from its name. A line a case: PASS or FAIL, with the worst relative error
||computed - recorded|| / ||recorded|| and where it arose; `halted` and `steps` must be equal. SKIP is for a
kind of recording that this project has no code for. Exit status:
0, 1 where a case fails, 2 with nothing to replay.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

Arrays = dict[str, np.ndarray]


class BadRecording(ValueError):
    """The recording cannot be replayed as it stands."""


@dataclass
class Comparison:
    """Collects what was computed against what was recorded."""

    tolerances: dict[str, float]
    entries: list[tuple[str, float, float]] = field(default_factory=list)  # name, error, tolerance
    unequal: list[str] = field(default_factory=list)

    def close(self, name: str, kind: str, computed: Any, recorded: Any) -> None:
        if kind not in self.tolerances:
            raise BadRecording(f"{name} is compared within tolerance[{kind!r}], which the json does not give")
        self.add(name, computed, recorded, self.tolerances[kind])

    def add(self, name: str, computed: Any, recorded: Any, tolerance: float) -> None:
        self.entries.append((name, relative_error(computed, recorded), tolerance))

    def equal(self, name: str, computed: torch.Tensor, recorded: np.ndarray) -> None:
        if not np.array_equal(as_array(computed), recorded):
            self.unequal.append(f"{name} is {computed.tolist()}, recorded {recorded.tolist()}")

    def verdict(self) -> tuple[bool, str]:
        if self.unequal:
            return False, self.unequal[0]
        if not self.entries:
            raise BadRecording("it holds nothing to compare")
        # Relative to its tolerance, so that a failure is always the one shown; NaN is worse than all.
        name, error, tolerance = max(self.entries, key=lambda e: np.inf if np.isnan(e[1]) else e[1] / e[2])
        return error <= tolerance, f"worst {error:.1e} at {name} (tolerance {tolerance:.0e})"


def as_array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def relative_error(computed: Any, recorded: Any) -> float:
    """||computed - recorded|| / ||recorded|| in the 2-norm; the plain difference where the recorded is 0."""
    computed, recorded = as_array(computed).astype(np.float64), as_array(recorded).astype(np.float64)
    if computed.shape != recorded.shape:
        raise BadRecording(f"computed an array of shape {computed.shape}, recorded is {recorded.shape}")
    norm = np.linalg.norm(recorded.ravel())
    return float(np.linalg.norm((computed - recorded).ravel()) / (norm if norm > 0 else 1.0))


def replay_case(case: dict[str, Any], arrays: Arrays, folder: Path) -> tuple[str, str]:
    """The case's status (PASS, FAIL or SKIP) and what to say about it; `folder` holds its other files."""
    kind = case.get("kind")
    if kind == "reference_checkpoint":
        from tests.golden_reference import replay_checkpoint

        comparison = Comparison(case["tolerance"])
        replay_checkpoint(case, arrays, folder, comparison)
    elif kind in ("core", "block"):
        from tests.golden_mixers import REPLAYS

        replay = REPLAYS[kind].get(case["mixer"])
        if replay is None:
            return "SKIP", f"no code for a {kind} of {case['mixer']!r} yet"
        comparison = Comparison(case["tolerance"])
        for entry in replay(case, arrays):
            comparison.add(*entry)
    elif kind is not None:
        return "SKIP", f"no code for recordings of kind {kind!r} yet"
    elif "config" in case:
        from tests.golden_trm import replay_trm

        comparison = Comparison(case["tolerance"])
        replay_trm(case, arrays, comparison)
    elif "dt_rank" in case or "headdim" in case:
        from tests.golden_blocks import replay_mamba, replay_mamba2

        replay_block = replay_mamba2 if "headdim" in case else replay_mamba
        comparison = Comparison(case["tolerance"])
        for entry in replay_block(case, arrays):
            comparison.add(*entry)
    else:
        raise BadRecording("its json has neither `config` (a model) nor `dt_rank` or `headdim` (a block)")
    passed, text = comparison.verdict()
    return ("PASS" if passed else "FAIL"), text


def replay_file(stem: Path) -> tuple[str, str]:
    """Replay STEM.json with STEM.npz; whatever goes wrong is a FAIL with its reason."""
    try:
        for suffix in (".json", ".npz"):
            if not stem.with_suffix(suffix).is_file():
                raise BadRecording(f"{stem.name}{suffix} is missing")
        case = json.loads(stem.with_suffix(".json").read_text())
        with np.load(stem.with_suffix(".npz")) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return replay_case(case, arrays, stem.parent)
    except KeyError as error:
        return "FAIL", f"the recording has no {error}"
    except Exception as error:  # the other cases are to be replayed all the same
        return "FAIL", " ".join(f"{type(error).__name__}: {error}".split())[:300]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.replay", description="Replay recorded cases.")
    parser.add_argument("directory", type=Path, help="holds NAME.json and NAME.npz for each case")
    directory = parser.parse_args(argv).directory
    files = [*directory.glob("*.json"), *directory.glob("*.npz")]
    stems = sorted({path.with_suffix("") for path in files})
    if not stems:
        print(f"{directory}: no recording (NAME.json with NAME.npz) in it", file=sys.stderr)
        return 2
    failed = False
    for stem in stems:
        status, text = replay_file(stem)
        failed |= status == "FAIL"
        print(f"{status} {stem.name} {text}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
