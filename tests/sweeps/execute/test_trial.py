"""One trial in this process: how it ends, what it leaves behind, what is told of it."""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeps.execute.failure import MAX_REASON
from sweeps.execute.trial import Payload, Report, TrialHandle
from sweeps.execute.warned import MAX_LENGTH, MAX_WARNINGS
from sweeps.execute.worker import TrialActor
from tests.sweeps.execute.unruly_trainer import _ACTS, MANY, Config
from tests.trm.test_trainer import make_config, untimed
from trm import load as trm_load


def payload(folder: Path, does: str = "nothing") -> Payload:
    return Payload(
        trial_id="a-d0-s1",
        trainer="tests.sweeps.execute.unruly_trainer:train",
        config={"does": does},
        seed=1,
        checkpoints=str(folder / "a"),
        log=str(folder / "logs" / "a-d0-s1.log"),
        metric="accuracy",
        mode="max",
        cpu=1,
        gpu=0,
    )


def played(given: Payload) -> list[Report]:
    """All reports of a trial, the last with its outcome."""
    trial = TrialHandle(given, "cpu")
    reports = [trial.next()]
    while not reports[-1].outcome:
        reports.append(trial.next())
    if given.max_silence_s is None:
        trial.stop()
    return reports


def log_of(given: Payload) -> str:
    return Path(given.log).read_text()


def test_a_trial_completes(tmp_path: Path) -> None:
    given = payload(tmp_path)
    *reports, end = played(given)
    assert [report.metrics["step"] for report in reports] == [1, 2]
    assert (end.outcome, end.reason, end.warnings) == ("completed", "", [])
    assert len(log_of(given).splitlines()) == 1  # the attempt's header


# Checkpoints


def saved(given: Payload, monkeypatch: pytest.MonkeyPatch, save: Any, value: float = 0.5) -> list[Report]:
    """The reports of a trial whose trainer has `save` write a checkpoint at each of its two steps."""

    def train(config: Any, trial: Any) -> None:
        assert trial.saves_in_place
        for step in (1, 2):
            trial.report({"step": step, "samples": 10 * step, "accuracy": value}, save)

    monkeypatch.setattr("tests.sweeps.execute.unruly_trainer.train", train)
    train.__annotations__["config"] = Config
    return played(given)


def test_a_trainer_may_write_a_checkpoint_where_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = payload(tmp_path)
    *_, end = saved(given, monkeypatch, lambda folder: (folder / "weights").write_text("x"))
    assert end.outcome == "completed"
    names = [path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("weights")]
    assert sorted(names) == ["step_000000001/weights", "step_000000002/weights"]


@pytest.mark.parametrize("raised", [OSError, RuntimeError])  # the latter is what torch.save makes of it
def test_a_checkpoint_for_which_there_is_no_room_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: type[Exception]
) -> None:
    def save(folder: Path) -> None:
        (folder / "half").write_text("x")
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            if raised is OSError:
                raise
            raise raised("unexpected pos 768 vs 662")  # noqa: B904

    given = payload(tmp_path)
    *reports, end = saved(given, monkeypatch, save)
    assert end.outcome == "completed"
    told = [f"step {step} has no checkpoint: No space left on device" for step in (1, 2)]
    assert [report.warnings for report in reports] == [[each] for each in told]
    assert all(each in log_of(given) for each in told)
    assert list((tmp_path / "a").iterdir()) == []


def test_an_error_of_the_function_is_the_trainers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(folder: Path) -> None:
        raise RuntimeError("no weights")

    *reports, end = saved(payload(tmp_path), monkeypatch, save)
    assert (end.outcome, end.reason, reports) == ("failed", "RuntimeError: no weights", [])
    assert list((tmp_path / "a").iterdir()) == []


def test_a_report_that_diverges_has_no_checkpoint_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    *_, end = saved(payload(tmp_path), monkeypatch, written.append, float("nan"))
    assert (end.outcome, written) == ("diverged", [])


def test_trms_trial_goes_on_from_its_last_checkpoint_bit_by_bit(tmp_path: Path) -> None:
    def trm(name: str) -> Payload:
        given = replace(payload(tmp_path / name), trainer="trm.trainer:train", metric="val/cell_accuracy")
        return replace(given, config=make_config().model_dump(mode="json"))

    *whole, _ = played(trm("whole"))
    first = TrialHandle(trm("killed"), "cpu")
    begun = [first.next() for _ in range(2)]
    assert first.stop()
    gone_on = TrialHandle(replace(trm("killed"), journal_step=10), "cpu")
    assert gone_on.checkpoint == tmp_path / "killed" / "a" / "step_000000010"
    rest = [gone_on.next() for _ in range(2)]
    assert gone_on.next().outcome == "completed" and gone_on.stop()
    assert untimed([each.metrics for each in begun + rest]) == untimed([each.metrics for each in whole])
    *best, last = sorted((tmp_path / "killed" / "a").iterdir())
    assert last.name == "step_000000020" and (last / "resume").exists()
    assert not any((path / "resume").exists() for path in best)
    assert all(trm_load(path, weights="raw").step == int(path.name[5:]) for path in (*best, last))


def test_a_trial_that_begins_anew_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a worker, without pytest's own
    given = payload(tmp_path)
    saved(given, monkeypatch, lambda folder: (folder / "weights").write_text("x"))
    for checkpoint in (tmp_path / "a").iterdir():
        (checkpoint / "weights").write_text("")
    names = [f"the checkpoint step_00000000{step} is damaged" for step in (2, 1)]
    told = f"{', '.join(names)}: the trial begins anew"
    first, *others = saved(given, monkeypatch, lambda folder: (folder / "weights").write_text("x"))
    assert (first.metrics["step"], first.warnings) == (1, [told])
    assert not any(report.warnings for report in others)
    assert log_of(given).count(told) == 1


# Failures


def test_a_failure_has_its_type_and_its_whole_message(tmp_path: Path) -> None:
    end = played(payload(tmp_path, "raises"))[-1]
    assert (end.outcome, end.reason) == ("failed", "TwoArguments: code 7\nthe second line")


def test_a_long_message_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    reason = played(payload(tmp_path, "raises at length"))[-1].reason
    assert len(reason) <= MAX_REASON
    assert reason.startswith("RuntimeError: CUDA error: an illegal memory access\n")
    assert reason.endswith("\nCompile with DSA") and "[...]" in reason


def test_a_failure_brings_the_end_of_its_log(tmp_path: Path) -> None:
    given = payload(tmp_path, "raises")
    end = played(given)[-1]
    assert "Traceback" in end.log and end.log.endswith("the second line")
    assert "====" not in end.log and end.log in log_of(given)
    assert len(end.log) <= 4000 and len(end.log.splitlines()) <= 20


@pytest.mark.parametrize(
    ("needed", "outcome"), [("CUDA error: out of memory", "out_of_memory"), ("another error", "failed")]
)
def test_a_trial_that_needs_more_of_a_gpu_is_told_from_a_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: str, outcome: str
) -> None:
    def act() -> None:
        raise RuntimeError(needed)

    monkeypatch.setitem(_ACTS, "nothing", act)
    assert played(replace(payload(tmp_path), is_measured=True))[-1].outcome == outcome
    assert played(payload(tmp_path))[-1].outcome == "failed"


def outcome_on_gpu(given: Payload, monkeypatch: pytest.MonkeyPatch, error: Exception, reports: int) -> str:
    """The outcome of a trial with a GPU whose trainer raises the error after so many reports."""

    def train(config: Any, trial: Any) -> None:
        for step in range(1, reports + 1):
            trial.report({"step": step, "samples": step, "accuracy": 0.5})
        raise error

    monkeypatch.setattr("tests.sweeps.execute.unruly_trainer.train", train)
    train.__annotations__["config"] = Config
    return played(replace(given, gpu=1))[-1].outcome


ADVICE = "\nCUDA kernel errors might be reported at some other API call; enable device-side assertions.\n"
OF_THE_NODE: list[Exception] = [
    torch.AcceleratorError(f"CUDA error: no CUDA-capable device is detected{ADVICE}"),
    torch.AcceleratorError(f"CUDA error: all CUDA-capable devices are busy or unavailable{ADVICE}"),
    RuntimeError(f"CUDA error: uncorrectable ECC error encountered{ADVICE}"),
    RuntimeError(f"CUDA error: no kernel image is available for execution on the device{ADVICE}"),
    RuntimeError(f"CUDA error: unknown error{ADVICE}"),
    RuntimeError("CUDA driver error: device not ready"),
    RuntimeError("No CUDA GPUs are available"),
    RuntimeError("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"),
    RuntimeError("The NVIDIA driver on your system is too old (found version 11040)."),
    RuntimeError("CUDA driver initialization failed, you might not have a CUDA gpu."),
    RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment"),
    RuntimeError("Unexpected error from cudaGetDeviceCount(). Error 804: forward compatibility"),
    AssertionError("Torch not compiled with CUDA enabled"),
]
OF_THE_TRIAL: list[Exception] = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    torch.AcceleratorError(f"CUDA error: out of memory{ADVICE}"),
    RuntimeError("CUDA driver error: out of memory"),
    torch.AcceleratorError(f"CUDA error: device-side assert triggered{ADVICE}"),
    torch.AcceleratorError(f"CUDA error: an illegal memory access was encountered{ADVICE}"),
    torch.AcceleratorError(f"CUDA error: unspecified launch failure{ADVICE}"),
    RuntimeError(f"CUDA error: invalid device ordinal{ADVICE}"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
]


@pytest.mark.parametrize("error", OF_THE_NODE, ids=str)
def test_a_trial_that_finds_no_gpu_that_works_is_lost_until_it_has_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    assert outcome_on_gpu(payload(tmp_path), monkeypatch, error, reports=0) == "lost"
    assert outcome_on_gpu(payload(tmp_path), monkeypatch, error, reports=1) == "failed"


@pytest.mark.parametrize("error", OF_THE_TRIAL, ids=str)
def test_what_a_trial_does_with_its_gpu_is_its_own_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    assert outcome_on_gpu(payload(tmp_path), monkeypatch, error, reports=0) == "failed"


def test_without_a_gpu_of_its_own_no_cuda_is_not_the_nodes_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act() -> None:
        raise RuntimeError("No CUDA GPUs are available")

    monkeypatch.setitem(_ACTS, "nothing", act)
    assert played(payload(tmp_path))[-1].outcome == "failed"


# What the next trial finds


@pytest.mark.parametrize("does", ["moves", "moves and raises"])
def test_the_process_is_as_it_was_after_a_trial(tmp_path: Path, does: str) -> None:
    variables, folder = dict(os.environ), Path.cwd()
    played(payload(tmp_path, does))
    mask = os.umask(0o022)
    os.umask(mask)
    assert (dict(os.environ), Path.cwd()) == (variables, folder)
    assert mask != 0o777


# Warnings


def test_warnings_are_bounded_and_all_of_them_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a worker, without pytest's own
    given = payload(tmp_path, "warns")
    told = played(given)[0].warnings
    assert len(told) == MAX_WARNINGS + 1 and max(map(len, told)) == MAX_LENGTH
    assert told[0].startswith("warning 0: xxx") and told[0].endswith("...")
    assert "more warnings" in told[-1] and "logs/a-d0-s1.log" in told[-1]
    missing = [n for n in range(MANY) if f"warning {n}: {'x' * 400}\n" not in log_of(given)]
    assert not missing


def test_a_warning_that_is_not_logged_is_told_in_every_trial(tmp_path: Path) -> None:
    def show(message: Any, category: type[Warning], path: str, line: int, *more: Any) -> None:
        sys.stderr.write(warnings.formatwarning(message, category, path, line))

    given = payload(tmp_path, "warns otherwise")
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # a place warns once in a process
        warnings.showwarning = show  # as Python does, but for pytest
        for _ in range(2):
            assert played(given)[0].warnings == ["UserWarning: this way is slow"]
        assert warnings.showwarning is show
    assert log_of(given).count("UserWarning: this way is slow") == 2


def test_a_warning_before_the_end_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def act() -> None:
        logging.getLogger("unruly").warning("it will not end well")
        raise RuntimeError

    monkeypatch.setitem(_ACTS, "nothing", act)
    end = played(payload(tmp_path))[-1]
    assert (end.reason, end.warnings) == ("RuntimeError", ["it will not end well"])


# Silence


def test_a_trial_that_does_not_report_fails_and_its_log_says_where_it_is(tmp_path: Path) -> None:
    given = replace(payload(tmp_path, "hangs"), max_silence_s=0.3)
    began = time.monotonic()
    end = played(given)[-1]
    assert time.monotonic() - began < 3
    assert (end.outcome, end.reason) == ("failed", "no report for 0.3 s (max_silence_s)")
    assert "unruly_trainer.py" in end.log and "time.sleep(3600)" in end.log
    assert "Thread 0x" in log_of(given)  # those of all threads


def test_the_time_in_which_the_driver_decides_is_no_silence(tmp_path: Path) -> None:
    trial = TrialHandle(replace(payload(tmp_path), max_silence_s=0.3), "cpu")
    assert trial.next().metrics["step"] == 1
    time.sleep(0.5)
    assert [trial.next().metrics["step"], trial.next().outcome] == [2, "completed"]
    trial.stop()


# Wrong reports


def test_a_wrong_report_fails_the_trial_and_keeps_what_came_before(tmp_path: Path) -> None:
    given = payload(tmp_path)
    trial = TrialHandle(given, "cpu")
    trial._history.append({"step": 1.0, "samples": 1.0})
    trial._last_step = 5
    with pytest.raises(ValueError, match="step 5 comes after step 5"):
        trial.report({"step": 5, "samples": 10})
    assert trial._history == [{"step": 1.0, "samples": 1.0}]
    end = trial.next()
    assert end.outcome == "misused" and "step 1 comes after step 5" in end.reason
    trial.stop()


def test_a_log_message_that_does_not_fit_its_values_is_no_error_of_the_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's raise such errors
    monkeypatch.setitem(_ACTS, "nothing", lambda: logging.getLogger("a.package").warning("%d items", "x"))
    *_, end = played(payload(tmp_path))
    assert end.outcome == "completed"
    assert "%d items" in log_of(payload(tmp_path))


def test_a_worker_whose_trainer_does_not_stop_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = threading.Event()
    monkeypatch.setattr("sweeps.execute.trial.STOP_S", 0.05)
    monkeypatch.setitem(_ACTS, "nothing", ends.wait)
    trial = TrialHandle(payload(tmp_path), "cpu")
    trial._thread.start()
    worker = object.__new__(TrialActor)
    worker._trial = trial
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    worker.cleanup()
    assert exits == [1]
    ends.set()
    trial._thread.join()
    assert trial.stop()
