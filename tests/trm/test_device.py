"""Precision and compilation: what is chosen on which device, and how a run goes on where compiling fails."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT
from tests.trm.test_trainer import FakeTrial, Killed, make_config, untimed
from trm.checkpoint import load_checkpoint
from trm.device import Compilation, forward_dtype, set_matmul_precision
from trm.loop import Trainer
from trm.trainer import train

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


def broken_where(fails: str):
    """A `Module.compile` that fails itself, or after which calls fail in training, in evaluation, or in the
    evaluation of the last report alone."""
    calls = {"evaluation": 0}

    def compile(self: torch.nn.Module, dynamic: bool) -> None:
        if fails == "at once":
            raise RuntimeError("no compiler here")

        def call(*args: Any, **kwargs: Any) -> Any:
            calls["evaluation"] += not self.training
            is_late = calls["evaluation"] > 30
            if {"training": self.training, "evaluation": not self.training, "late": is_late}.get(fails):
                raise RuntimeError("no compiler here")
            return self._call_impl(*args, **kwargs)

        self._compiled_call_impl = call

    return compile


@pytest.mark.parametrize("fails", ["at once", "training", "evaluation", "late"])
def test_a_run_goes_on_where_the_compiler_fails_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails: str
) -> None:
    """With q_continue, which is learned in training mode alone: the run must come back to that."""
    few = {"batch_size": 16, "max_samples": 16 * 15}
    config = make_config(train=few, model={"act": "continue"})
    plain, trial = FakeTrial(tmp_path / "plain"), FakeTrial(tmp_path / "fallback")
    train(config, plain)
    monkeypatch.setattr(torch.nn.Module, "compile", broken_where(fails))
    monkeypatch.setattr("trm.loop.compiling_pays", lambda config: True)
    with caplog.at_level(logging.WARNING):
        train(config, trial)
    assert caplog.text.count("no compiler here") == 1
    parts = [f"compiled_{part}" for part in ("training", "evaluation")]
    for row, expected_row in zip(untimed(trial.rows), untimed(plain.rows), strict=True):
        same = row | dict.fromkeys(parts, 0)  # but for the number of rows at a time, and so the rounding
        assert same == pytest.approx(expected_row, rel=1e-5)
    # A report says what its steps were; the last one's evaluation failed after that.
    expected = {"at once": (0, 0), "training": (0, 1), "evaluation": (1, 0), "late": (1, 1)}[fails]
    assert tuple(trial.rows[-1][part] for part in parts) == expected
    kept = load_checkpoint(trial.folder / "15", "cpu")["compiled"]
    assert tuple(kept.values()) == ((True, False) if fails == "late" else expected)


def test_a_run_that_must_be_compiled_fails_where_it_cannot_be(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "compile", broken_where("training"))
    with pytest.raises(RuntimeError, match=r"train.compile is on.*set it to auto"):
        train(make_config(train={"compile": "on"}), FakeTrial(tmp_path))


def test_a_resumed_run_is_compiled_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(train={"max_samples": 16 * 10})
    monkeypatch.setattr("trm.loop.compiling_pays", lambda config: True)
    monkeypatch.setattr(torch.nn.Module, "compile", broken_where("training"))
    first = FakeTrial(tmp_path / "first", end_after=1)
    with pytest.raises(Killed):
        train(config, first)
    monkeypatch.setattr(torch.nn.Module, "compile", broken_where("never"))
    resumed = Trainer(config, FakeTrial(tmp_path / "resumed", checkpoint=first.folder / "5"))
    assert resumed.compilation.parts == {"training": False, "evaluation": True}


IN_BOTH_WAYS = """
import json, logging
from pathlib import Path
from torch._dynamo.utils import counters
from tests.trm.test_trainer import FakeTrial, make_config
from trm.loop import Trainer

logging.basicConfig(level=logging.WARNING)
even = {  # batches of one size, as each shape is a graph, and a graph takes ten seconds
    "data": {"num_train": 48, "num_val": 16, "num_test": 16}, "eval": {"batch_size": 16, "depth_rows": 16}
}
for choice in ("off", "on"):
    train = {"compile": choice, "batch_size": 16, "max_samples": 16 * 5}
    config = make_config("mamba", train=train, **even)
    trainer = Trainer(config, trial := FakeTrial(Path(choice)))
    trainer.run()
    print(json.dumps([row["train/loss"] for row in trial.rows]))
    trainer.close()
print(json.dumps([counters["stats"]["unique_graphs"], counters["graph_break"]]))
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler, g++")
def test_compiled_is_eager_to_rounding(tmp_path: Path) -> None:
    """With the mixer that has an operator of its own and a convolution with a gradient of its own."""
    # In a process of its own: the compiler cannot see through the checks of shapes that tests have.
    run = subprocess.run(
        [sys.executable, "-c", IN_BOTH_WAYS], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=150, check=True,
    )  # fmt: skip
    eager, compiled, (graphs, breaks) = (json.loads(line) for line in run.stdout.splitlines())
    assert "torch.compile failed" not in run.stderr, run.stderr
    assert graphs == 2 and not breaks  # a block is one graph, with a gradient and without
    assert compiled == pytest.approx(eager, rel=1e-4)


def test_an_error_that_is_not_the_compilers_is_not_taken_for_it(tmp_path: Path, monkeypatch) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr("trm.loop.supervision_loss", fail)
    with pytest.raises(RuntimeError, match="something else"):
        train(make_config(), FakeTrial(tmp_path))


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_precision(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, has_bfloat16: bool):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: has_bfloat16)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "an old GPU")
    assert forward_dtype("auto", CPU) == forward_dtype("float32", GPU) == torch.float32
    assert forward_dtype("bfloat16", CPU) == torch.bfloat16 and not caplog.records
    assert forward_dtype("auto", GPU) == (torch.bfloat16 if has_bfloat16 else torch.float32)
    assert ("an old GPU does not support bfloat16: the run uses float32" in caplog.text) != has_bfloat16


def test_tf32_is_set_for_the_trial_and_taken_back_by_the_next() -> None:
    set_matmul_precision("tf32", CPU)
    assert torch.backends.cuda.matmul.fp32_precision != "tf32"
    for precision, expected in (("tf32", "tf32"), ("float32", "ieee")):
        set_matmul_precision(precision, GPU)
        assert torch.backends.cuda.matmul.fp32_precision == expected
    assert forward_dtype("tf32", GPU) == torch.float32


def test_compiled_code_is_kept_where_no_other_user_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    del os.environ["TORCHINDUCTOR_CACHE_DIR"]
    Compilation([], is_on=True, is_required=False)
    assert Path(cache_dir()).is_relative_to(tmp_path)
    assert Path(cache_dir()).stat().st_mode & 0o777 == 0o700


def test_a_users_own_place_for_compiled_code_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    Compilation([], is_on=True, is_required=False)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)


@pytest.mark.parametrize("problem", ["a file is in the way", "others may write there"])
def test_where_the_cache_is_not_private_compiled_code_goes_into_a_folder_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, problem: str
) -> None:
    folder = tmp_path / "trm" / "compiled"
    folder.parent.mkdir()
    if problem == "a file is in the way":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    del os.environ["TORCHINDUCTOR_CACHE_DIR"]
    Compilation([], is_on=True, is_required=False)
    used = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert not used.is_relative_to(tmp_path) and used.stat().st_mode & 0o777 == 0o700
    assert "is not this user's alone" in caplog.text
