"""Sweeps made up from a seed, written as a sweep's folder is, beside one that was recorded.

recorded/ is what `make smoke` left in results/smoke, without checkpoints, logs and report. Made-up curves are
logistic in samples; a trial's own luck comes from its arm and seed, and pruned trials stop at a rung.
"""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from analysis.report.summary import write_summary
from analysis.sweep import Sweep

RECORDED = Path(__file__).parent / "recorded"
OBJECTIVE = "val/exact_accuracy"


@dataclass(frozen=True)
class Fake:
    """One arm: where its accuracy ends, how soon it rises, and what becomes of its seeds."""

    final: float
    midpoint: float = 0.4  # of the rise, as a share of the horizon
    params: int | None = 250_000
    flops: int | None = 40_000_000
    stop: float | None = None  # share of the horizon at which the search's trials are pruned
    statuses: dict[int, str] = field(default_factory=dict)  # by seed, where not completed
    levels: dict[str, Any] = field(default_factory=dict)  # of the factors; empty: the arm is the mixer's kind
    match: dict[str, Any] | None = None  # how it met a matched budget, as sweep.yaml has it


EXACT = {"evidence": {"test": "permutation"}}  # a space whose claims need a least number of seeds


def at_equal_flops(sweep: Sweep, total: float) -> Sweep:
    """The sweep as one whose arms were given equal training FLOPs, and judged by them."""
    match = {"train_flops": "baseline", "by": "train.max_samples", "tolerance": 0.02}
    resolved = {**sweep.resolved, "identity": {"match": {"train_flops": total}}}
    scheduler = {**sweep.space["scheduler"], "time_attr": "flops"}
    space = {**sweep.space, "match": match, "scheduler": scheduler, "resolved": resolved}
    return replace(sweep, space=space)


def write_sweep(
    folder: Path,
    arms: dict[str, Fake],
    *,
    seeds: tuple[int, ...] = (0, 1),
    phase: str = "search",
    horizon: int = 400_000,
    draws: tuple[int, ...] = (0,),
    test: bool = True,
    depth: bool = False,
    space: dict[str, Any] | None = None,
    tune: dict[str, list[Any]] | None = None,
) -> Path:
    """Write sweep.yaml, trials.parquet, history.parquet, journal.jsonl and summary.csv into `folder`.

    With `depth` completed trials report what a chosen checkpoint does beyond one number. `tune` has tuned
    values by draw.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trials, history, decisions = [], [], []
    for name, fake in arms.items():
        for draw in draws:
            for seed in seeds:
                reports = _reports(name, fake, draw, seed, horizon, test)
                if depth and reports and "test/exact_accuracy" in reports[-1]:
                    reports[-1] |= _depth(name, seed, reports[-1]["test/exact_accuracy"])
                drawn = {key: values[draw] for key, values in (tune or {}).items()}
                trials.append(_trial(name, fake, draw, seed, phase, reports) | drawn)
                history += [{"trial_id": trials[-1]["trial_id"], **report} for report in reports]
            if fake.stop:
                decisions.append(_stop(name, draw, trials[-1]["trial_id"], fake.stop * horizon))
    columns = {key: None for report in history for key in report}
    pd.DataFrame(trials).to_parquet(folder / "trials.parquet")
    pd.DataFrame(history, columns=list(columns)).to_parquet(folder / "history.parquet")
    (folder / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in decisions))
    (folder / "sweep.yaml").write_text(
        yaml.safe_dump(
            {**_space(folder.name, arms, seeds), "tune": {key: {} for key in tune or {}}, **(space or {})},
            sort_keys=False,
        )
    )
    write_summary(folder)
    return folder


def _space(name: str, arms: dict[str, Fake], seeds: tuple[int, ...]) -> dict[str, Any]:
    return {
        "name": name,
        "trainer": "trm.trainer:train",
        "objective": {"metric": OBJECTIVE, "mode": "max"},
        "ablate": {factor: list(dict.fromkeys(level)) for factor, level in _factors(arms).items()},
        "scheduler": {
            "kind": "asha", "scope": "sweep", "metric": "val/cell_accuracy", "time_attr": "samples",
            "grace_period": 100_000, "max_t": 400_000, "reduction_factor": 2,
        },
        "seeds": list(seeds),
        "resources": {"cpu": 1, "gpu": 0},
        "resolved": {
            "hash": "0f1e2d3c4b5a", "baseline": next(iter(arms)), "factors": list(_factors(arms)),
            "version": "0.1.0", "created": "2026-11-24T12:00:00+00:00", "data": "a1b2c3d4",
            "identity": {"base": {"model.halt_max_steps": 16}},
            "arms": {
                arm: {
                    "levels": fake.levels or {"model.mixer.kind": arm},
                    "num_params": fake.params,
                    "flops_per_sample": fake.flops,
                    **({"match": fake.match} if fake.match else {}),
                }
                for arm, fake in arms.items()
            },
        },
    }  # fmt: skip


def _factors(arms: dict[str, Fake]) -> dict[str, list[Any]]:
    """Each factor's level in every arm that has it, in the order of the arms."""
    found: dict[str, list[Any]] = {}
    for name, fake in arms.items():
        for factor, level in (fake.levels or {"model.mixer.kind": name}).items():
            found.setdefault(factor, []).append(level)
    return found


def _depth(name: str, seed: int, exact: float) -> dict[str, float]:
    """Accuracy saturates over supervision steps, and falls with the rating."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed, 1])
    at = {1 << k: exact * (1 - 0.9 * 0.6**k) + rng.normal(0, 0.005) for k in range(8)}
    ratings = {"0": 1.0, "1_9": 0.9, "10_29": 0.7, "30_up": 0.4}
    found = {f"exact_accuracy_at_{steps}": value for steps, value in at.items()}
    found |= {f"exact_accuracy_rating_{bucket}": exact * share for bucket, share in ratings.items()}
    rows = {f"test/rows_rating_{bucket}": 100.0 for bucket in ratings}
    found |= {"q_auroc": 0.8 + rng.normal(0, 0.02), "q_ece": 0.1 + rng.normal(0, 0.02)}
    found["solved_then_lost"] = abs(rng.normal(0.02, 0.01))
    return rows | {f"test/{key}": float(np.clip(value, 0, 1)) for key, value in found.items()}


def _reports(name: str, fake: Fake, draw: int, seed: int, horizon: int, test: bool) -> list[dict[str, float]]:
    status = fake.statuses.get(seed, "completed")
    if status == "not_started":
        return []
    rng = np.random.default_rng([zlib.crc32(name.encode()), draw, seed])
    luck, share = rng.normal(0, 0.02), fake.stop or (1.0 if status == "completed" else 0.6)
    samples = np.arange(1, 21) * horizon // 20
    rows = []
    for step, at in enumerate(samples[samples <= share * horizon], start=1):
        rise = 1 / (1 + math.exp(-10 * (at / horizon - fake.midpoint)))
        exact = float(np.clip((fake.final + luck) * rise + rng.normal(0, 0.008), 0, 1))
        rows.append({
            "step": step * 100, "samples": float(at), "flops": float(at) * fake.flops if fake.flops else None,
            "wall_s": 2.0 * step, "train/loss": 2.0 * (1 - rise) + 0.05, OBJECTIVE: exact,
            "val/cell_accuracy": 0.25 + 0.75 * exact,
        })  # fmt: skip
    if status == "diverged":
        rows[-1]["train/loss"] = math.nan
    if test and share == 1.0:
        rows[-1]["test/exact_accuracy"] = float(
            np.clip(rows[-1][OBJECTIVE] - 0.01 + rng.normal(0, 0.004), 0, 1)
        )
    return rows


def _trial(
    name: str, fake: Fake, draw: int, seed: int, phase: str, reports: list[dict[str, float]]
) -> dict[str, Any]:
    status = "pruned" if fake.stop else fake.statuses.get(seed, "completed")
    reasons = {
        "diverged": "train/loss is nan",
        "failed": "RuntimeError: out of memory",
        "pruned": "below the cut-off",
    }
    last = {key: value for key, value in (reports[-1] if reports else {}).items() if key != "step"}
    best = max((report[OBJECTIVE] for report in reports), default=math.nan)
    return {
        "trial_id": f"{name}-d{draw}-s{seed}", "arm": name, "draw": draw, "phase": phase, "seed": seed,
        "status": status, "reason": reasons.get(status, ""), "num_params": fake.params,
        "flops_per_sample": fake.flops, "mlflow_run_id": "",
        **(fake.levels or {"model.mixer.kind": name}), **last,
        f"best/{OBJECTIVE}": best, "best_step": reports[-1]["step"] if reports else None,
    }  # fmt: skip


def _stop(name: str, draw: int, trial_id: str, rung: float) -> dict[str, Any]:
    member = f"{name}-d{draw}"
    values = {"rung": rung, "value": 0.31, "cutoff": 0.42, "action": "stop"}
    return {"time": 0.0, "event": "decision", "member": member, "trial_id": trial_id, **values}
