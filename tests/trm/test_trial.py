from __future__ import annotations

import json
from pathlib import Path

import pytest

from trm.checkpoint import FILE, load_checkpoint, save_checkpoint
from trm.trial import Diverged, LocalTrial


def report(trial: LocalTrial, folder: Path, step: int, accuracy: float) -> None:
    save_checkpoint(folder, {"step": step})
    trial.report({"step": step, "samples": step * 2, "val/exact_accuracy": accuracy}, checkpoint=folder)


def steps(trial: LocalTrial) -> list[int]:
    return [json.loads(line)["step"] for line in trial.metrics_file.read_text().splitlines()]


def test_last_and_best_are_kept(tmp_path: Path) -> None:
    trial = LocalTrial(tmp_path / "run", 0, "cpu")
    assert trial.checkpoint is None
    for step, accuracy in [(1, 0.2), (2, 0.5), (3, 0.5), (4, 0.1)]:
        report(trial, tmp_path / "given", step, accuracy)
    assert load_checkpoint(tmp_path / "run" / "last", "cpu")["step"] == 4
    assert load_checkpoint(tmp_path / "run" / "best", "cpu")["step"] == 2
    assert steps(trial) == [1, 2, 3, 4]


def test_the_best_checkpoint_has_the_weights_alone(tmp_path: Path) -> None:
    trial = LocalTrial(tmp_path, 0, "cpu")
    for step, accuracy in [(1, 0.5), (2, 0.1)]:
        metrics = {"step": step, "samples": step, "val/exact_accuracy": accuracy}
        trial.report(metrics, lambda folder, step=step: save_checkpoint(folder, {"step": step}, {"carry": 1}))
    found = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(found) == [f"best/{FILE}", f"last/{FILE}", "last/resume/state.pt", "metrics.jsonl"]
    assert [load_checkpoint(tmp_path / name, "cpu")["step"] for name in ("best", "last")] == [1, 2]


def test_a_run_that_was_killed_between_two_checkpoints_goes_on(tmp_path: Path) -> None:
    report(LocalTrial(tmp_path / "run", 0, "cpu"), tmp_path / "given", 1, 0.9)
    (tmp_path / "run" / "last").rename(tmp_path / "run" / ".last.old")
    resumed = LocalTrial(tmp_path / "run", 0, "cpu", resume=True)
    assert resumed.checkpoint == tmp_path / "run" / "last" and steps(resumed) == [1]


def test_a_best_checkpoint_that_a_crash_kept_from_being_kept_is_kept_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    trial = LocalTrial(tmp_path / "run", 0, "cpu")
    report(trial, tmp_path / "given", 1, 0.2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("trm.trial.keep_weights", killed)
        report(trial, tmp_path / "given", 2, 0.9)
    resumed = LocalTrial(tmp_path / "run", 0, "cpu", resume=True)
    report(resumed, tmp_path / "given", 3, 0.5)
    assert load_checkpoint(tmp_path / "run" / "best", "cpu")["step"] == 2


def test_resume_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    trial = LocalTrial(tmp_path / "run", 0, "cpu")
    report(trial, tmp_path / "given", 1, 0.9)
    with trial.metrics_file.open("a") as file:
        file.write('{"step": 2, "samples": 4}\n{"step": 3, "sam')
    resumed = LocalTrial(tmp_path / "run", 0, "cpu", resume=True)
    assert resumed.checkpoint == tmp_path / "run" / "last"
    assert steps(resumed) == [1]
    report(resumed, tmp_path / "given", 2, 0.5)
    assert steps(resumed) == [1, 2]
    assert load_checkpoint(tmp_path / "run" / "best", "cpu")["step"] == 1


def test_resume_without_a_checkpoint_starts_anew(tmp_path: Path) -> None:
    trial = LocalTrial(tmp_path, 0, "cpu", resume=True)
    assert trial.checkpoint is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_not_finite_diverges_and_keeps_the_checkpoint(tmp_path: Path, value: float) -> None:
    trial = LocalTrial(tmp_path / "run", 0, "cpu")
    report(trial, tmp_path / "given", 1, 0.3)
    with pytest.raises(Diverged, match=r"diverged at step 2: val/exact_accuracy is (nan|inf)"):
        report(trial, tmp_path / "given", 2, value)
    assert load_checkpoint(tmp_path / "run" / "last", "cpu")["step"] == 1
