"""The real command on a sweep that is bounded, added to and reused; and on GPUs that only Ray sees. All
launches join one Ray instance."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from sweeps.record.journal import read_journal
from tests.sweeps.launches import Done, run_here, shared_ray
from tests.sweeps.observe.test_notify import Hook, hook
from tests.sweeps.spaces import write_space

__all__ = ["hook"]


def trials(folder: Path, name: str = "toy") -> pd.DataFrame:
    return pd.read_parquet(folder / "results" / name / "trials.parquet").set_index("trial_id")


def runs(folder: Path, name: str) -> list[Any]:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    return list(client.search_runs([client.get_experiment_by_name(name).experiment_id]))


def starts(folder: Path, name: str = "toy") -> Counter[str]:
    events = read_journal(folder / "results" / name / "journal.jsonl")
    return Counter(event["trial_id"] for event in events if event["event"] == "start")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with shared_ray() as found:
        yield found


def test_a_sweep_is_extended_until_its_reserve_is_spent(address: str, tmp_path: Path) -> None:
    def run_sweep(seeds: int, reserve: float, *arguments: object) -> Done:
        space = write_space(
            tmp_path,
            name=f"reserve{reserve:g}",
            ablate={"model.bonus": [0, 1e-6]},
            seeds=list(range(seeds)),
            evidence={"reserve": reserve},
        )
        return run_here(tmp_path, space, *arguments, "--address", address)

    assert run_sweep(2, 0.001).returncode == 0
    extended = run_sweep(4, 0.001, "--extend")
    assert extended.returncode == 0, extended.stderr
    journal = tmp_path / "results" / "reserve0.001" / "journal.jsonl"
    before = journal.read_bytes()
    for arguments in (["--extend"], ["--extend", "--dry-run"]):
        refused = run_sweep(6, 0.001, *arguments)
        assert refused.returncode == 2 and "evidence.reserve was 0.001 of the 5%" in refused.stderr
    assert journal.read_bytes() == before
    stages = [event for event in read_journal(journal) if event["event"] == "stage"]
    assert [stage["level"] for stage in stages] == [0.049, 0.0005]

    assert run_sweep(2, 0).returncode == 0
    refused = run_sweep(4, 0, "--extend")
    assert refused.returncode == 2 and "evidence.reserve is 0, so that" in refused.stderr


def test_a_sweep_is_bounded_raised_added_to_and_reused(address: str, tmp_path: Path, hook: Hook) -> None:
    def run_sweep(*arguments: object) -> Done:
        return run_here(tmp_path, *arguments, "--address", address)

    two = {"ablate": {"model.kind": ["a", "b"]}}
    space = write_space(tmp_path, **two, budget={"trials": 3}, max_checkpoint_gb=3e-7)
    bounded = run_sweep(space, "--notify", hook.url("200"))
    assert bounded.returncode == 3, bounded.stderr
    assert "The budget is spent (trials: 3 of 3); not started: 1." in bounded.stdout
    assert Counter(trials(tmp_path).status) == {"completed": 3, "not_started": 1}
    told = json.loads(hook.taken[0][1])
    assert told["exit_status"] == 3 and told["trials"] == {"completed": 3, "not_started": 1}
    left = list((tmp_path / "results" / "toy" / "checkpoints").glob("*/*"))
    assert len(left) < 3  # 300 bytes hold less than these

    refused = run_sweep(space)
    assert refused.returncode == 2 and "the budget was spent: raise it first" in refused.stderr

    space = write_space(tmp_path, **two, budget={"trials": 4})
    raised = run_sweep(space, "--resume")
    assert raised.returncode == 0, raised.stderr
    assert Counter(trials(tmp_path).status) == {"completed": 4}
    before = starts(tmp_path)

    space = write_space(tmp_path, ablate={"model.kind": ["a", "b", "c"]}, seeds=[1, 2, 3])
    refused = run_sweep(space)
    assert refused.returncode == 2 and "add to it with --extend" in refused.stderr
    dry = run_sweep(space, "--extend", "--dry-run")
    assert dry.returncode == 0 and "Of these, 4 have already run in results/toy" in dry.stdout
    extended = run_sweep(space, "--extend")
    assert extended.returncode == 0, extended.stderr
    assert Counter(trials(tmp_path).status) == {"completed": 8}  # b is decided, and gets no third seed
    assert set((starts(tmp_path) - before).values()) == {1} and len(starts(tmp_path) - before) == 4
    found = runs(tmp_path, "toy")
    assert Counter(run.data.tags["role"] for run in found) == {"sweep": 1, "trial": 8}
    assert {run.info.status for run in found} == {"FINISHED"}

    space = write_space(tmp_path, name="again", seeds=[2, 3, 4])
    again = run_sweep(space, "--reuse")
    assert again.returncode == 0, again.stderr
    assert "Reused from other sweeps: 5 trials" in again.stdout
    reused = trials(tmp_path, "again").reason.str.startswith("reused from toy/")
    assert reused.sum() == 5 and len(reused) == 9
    tagged = [run for run in runs(tmp_path, "again") if run.data.tags.get("reused_from")]
    assert len(tagged) == 5
    old, new = (pd.read_parquet(tmp_path / "results" / n / "history.parquet") for n in ("toy", "again"))
    both = old.merge(new, on=["trial_id", "step"])
    assert len(both) == 50 and (both.accuracy_x == both.accuracy_y).all()


def test_trials_are_packed_by_their_memory_and_get_more_when_it_runs_out(
    address: str, tmp_path: Path
) -> None:
    levels = {
        "small": {"needs_gb": 5},
        "large": {"needs_gb": 50},
        "grows": {"needs_gb": 15, "fails": 2},
        "bursts": {"needs_gb": 15, "fails": 9},
        "unknown": {"needs_gb": -1},
    }
    common: dict[str, Any] = {
        "trainer": "tests.sweeps.memory_trainer:train",
        "base": {"scratch": str(tmp_path)},
        "seeds": [1],
        "max_failures": 0,
        "resources": {"cpu": 0.5, "gpu": "auto"},
    }
    two = {"case": {"levels": {name: levels[name] for name in ("small", "unknown")}}}
    looked_at = write_space(tmp_path, **common, name="looked_at", ablate=two)
    unknown = run_here(tmp_path, looked_at, "--calibrate", "--address", address)
    assert unknown.returncode == 0, unknown.stderr
    assert "Time: not known, as no step of case=unknown could be timed" in unknown.stdout
    looked_at.write_text(looked_at.read_text().replace("needs_gb: -1", "needs_gb: 6"))
    preview = run_here(tmp_path, looked_at, "--calibrate", "--address", address)
    assert preview.returncode == 0, preview.stderr
    # 26 of the small one fit on two GPUs, and four on two CPUs
    assert "At once: 4 (0.5 CPU and auto GPU a trial; 2 CPU and 2 GPU" in preview.stdout
    assert "Time of the sweep: about 15 s, 0.00" in preview.stdout
    assert not (tmp_path / "results").exists()

    space = write_space(tmp_path, **common, ablate={"case": {"levels": levels}})
    done = run_here(tmp_path, space, "--address", address)
    assert done.returncode == 1, done.stderr
    events = list(read_journal(tmp_path / "results" / "toy" / "journal.jsonl"))
    shares = {
        event["arm"].partition("=")[2]: event["gpu"] for event in events if event["event"] == "measured"
    }
    assert shares == pytest.approx(
        {"small": 1 / 13, "large": 1, "grows": 1 / 4, "bursts": 1 / 4, "unknown": 1}
    )
    given = {name: [] for name in levels}  # type: ignore[var-annotated]
    for event in events:
        if event["event"] == "start":
            given[event["trial_id"].partition("=")[2].partition("-")[0]].append(event["gpu"])
    assert given["small"] == pytest.approx([1 / 13]) and given["large"] == [1]
    assert given["grows"] == given["bursts"] == [1 / 4, 1 / 2, 1]
    outcome = {name.partition("=")[2].partition("-")[0]: row for name, row in trials(tmp_path).iterrows()}
    assert outcome["grows"].status == "completed" and outcome["bursts"].status == "failed"
    assert "CUDA out of memory" in outcome["bursts"].reason
    retries = [event for event in events if event["event"] == "retry"]
    assert len(retries) == 4 and all("CUDA out of memory" in event["reason"] for event in retries)
