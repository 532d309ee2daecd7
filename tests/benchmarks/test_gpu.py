"""The benchmark for a GPU, as far as a CPU lets it run: so that it works on the day there is one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.at_once import samples_per_s
from benchmarks.training_step import RECIPE, config_of
from tests.conftest import ROOT
from trm.data.sudoku import SudokuConfig

TINY = ["data.size=4", "model.hidden_size=16", "train.batch_size=2", "model.h_cycles=1", "model.l_cycles=1"]
FOREVER = gpu.Clock(60)


def tiny(kind: str = "mlp"):
    return {kind: config_of(RECIPE, kind, TINY)}


def test_the_kernels_and_a_step_are_compared() -> None:
    assert gpu.kernels("cpu")["float32"]["y"] < 1e-5
    assert all(0 < error < 1e-4 for error in gpu.numbers("cpu", tiny())["mlp"].values())


def test_a_step_that_differs_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gpu._one_step

    def wrong(config, device, is_double):
        found = right(config, device, is_double)
        return found if is_double else found | {"answer": found["answer"] * 1.01}

    monkeypatch.setattr(gpu, "_one_step", wrong)
    assert gpu.numbers("cpu", tiny())["mlp"]["answer"] == pytest.approx(0.01, rel=1e-3)


def test_steps_are_timed_until_the_minutes_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "TIMED", 1)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, dynamic: None)  # it cannot trace beartype
    found = gpu.steps("cpu", tiny(), FOREVER)["mlp"]
    assert found["eager"]["step_ms"] > 0 and found["compiled"]["samples_per_s"] > 0
    assert gpu.steps("cpu", tiny(), gpu.Clock(0))["cut"]


def test_a_failing_part_is_written_down_and_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(device: str) -> None:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(gpu, "kernels", failing)
    monkeypatch.setattr(gpu, "configs_of", lambda path, overrides: tiny())
    out = tmp_path / "gpu.json"
    arguments = ["gpu", "--device", "cpu", "--out", str(out), "--part", "kernels", "--part", "numbers"]
    monkeypatch.setattr(sys, "argv", arguments)
    gpu.main()
    found = json.loads(out.read_text())
    assert found["kernels"] == {"error": "RuntimeError: no such instruction"}
    assert set(found["numbers"]) == {"mlp"} and found["torch"] == str(torch.__version__)


def test_a_trial_in_a_process_of_its_own_says_its_speed() -> None:
    assert samples_per_s(["benchmarks.gpu", "--device", "cpu", "--share", "0.2"], 1, 0.2) > 0


def test_a_trial_that_fails_before_it_is_ready_ends_the_measurement() -> None:
    with pytest.raises(RuntimeError, match="ended before it was ready"):
        samples_per_s(["benchmarks.nothing"], 2, 0.2)


def test_the_curve_goes_on_where_the_minutes_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "PUBLISHED", ROOT / "search_spaces/base/smoke_4x4.yaml")
    settings = {"train.batch_size": 4, "train.max_samples": 32, "eval.every_samples": 16, "data.size": 6}
    few = {"data.num_train": 4, "data.num_val": 2, "optim.lr_warmup_steps": 0}
    monkeypatch.setattr(gpu, "CURVE", settings | few)
    data = SudokuConfig(size=6, num_train=8, num_val=2, num_test=4).load()
    files = [tmp_path / "train.csv", tmp_path / "test.csv"]
    for path, split in zip(files, (data.train, data.test), strict=True):
        boards = zip(split.inputs, split.labels, strict=True)
        rows = [f"made,{_digits(question)},{_digits(answer)},0" for question, answer in boards]
        path.write_text("source,question,answer,rating\n" + "\n".join(rows) + "\n")
    first = gpu.curve("cpu", files, tmp_path / "curve", gpu.Clock(0))
    assert [row["samples"] for row in first] == [16]
    second = gpu.curve("cpu", files, tmp_path / "curve", FOREVER)
    assert [row["samples"] for row in second] == [16, 32]


def _digits(tokens: torch.Tensor) -> str:
    return "".join("." if token == 1 else str(token - 1) for token in tokens.tolist())


def test_it_needs_neither_ray_nor_mlflow() -> None:
    code = (
        "import sys, benchmarks.gpu; "
        "print([m for m in ('ray', 'mlflow', 'optuna', 'pandas', 'pytest') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_device_that_is_not_there_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--device", "cuda:7"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (
        done.returncode == 2 and "torch has no such device" in done.stderr and "Traceback" not in done.stderr
    )
