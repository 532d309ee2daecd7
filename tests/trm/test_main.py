from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trm.__main__ import load_config, main
from trm.checkpoint import load_checkpoint
from trm.config import TrialConfig
from trm.device import resolve_device

ROOT = Path(__file__).parents[2]
TINY = """
model: {hidden_size: 16, num_layers: 1, h_cycles: 1, l_cycles: 1, puzzle_emb_len: 1, halt_max_steps: 2,
        mixer: {kind: attention, num_heads: 2}}
data: {task: sudoku, source: embedded, size: 4, num_train: 40, num_val: 20, num_test: 20}
optim: {lr: 1e-3, lr_warmup_steps: 2}
train: {batch_size: 8, max_samples: 64}
eval: {every_samples: 32, val_rows: 8, batch_size: 32}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def lines(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_a_run_writes_metrics_checkpoints_and_a_table(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(["--config", str(config), "--output", str(output), "--device", "cpu", "--seed", "5"]) == 0
    rows = lines(output)
    assert [row["step"] for row in rows] == [4, 8]
    assert load_checkpoint(output / "last", "cpu")["step"] == 8
    assert json.loads((output / "run.json").read_text())["seed"] == 5
    printed = capsys.readouterr().out
    assert "test" in printed
    assert f"{rows[-1]['test/exact_accuracy_high']:.4f}" in printed

    # A second start does not write over it, and one that goes on has nothing to do.
    before = (output / "metrics.jsonl").read_bytes()
    assert main(["--config", str(config), "--output", str(output)]) == 2
    assert "continue with --resume" in capsys.readouterr().err
    again = ["--config", str(config), "--output", str(output), "--seed", "5", "--resume", "--device", "cpu"]
    assert main(again) == 0
    assert "is already finished" in capsys.readouterr().out
    assert (output / "metrics.jsonl").read_bytes() == before


def test_resume_goes_on_to_the_same_figures(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--config", str(config), "--device", "cpu", "--set", "model.mixer.kind=mlp", "--output"]
    assert main([*command, str(tmp_path / "whole")]) == 0

    from trm.trial import LocalTrial

    real = LocalTrial.report

    def interrupted(self: LocalTrial, metrics: dict[str, float], checkpoint: str | None = None) -> None:
        real(self, metrics, checkpoint)
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalTrial, "report", interrupted)
    assert main([*command, str(tmp_path / "cut")]) == 130
    assert "--resume" in capsys.readouterr().err
    monkeypatch.setattr(LocalTrial, "report", real)
    assert len(lines(tmp_path / "cut")) == 1
    assert main([*command, str(tmp_path / "cut"), "--resume", "--seed", "1"]) == 2
    assert "seed was 0 and is now 1" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "cut"), "--resume"]) == 0
    timeless = [
        [{k: v for k, v in row.items() if k not in ("wall_s", "samples_per_s")} for row in lines(output)]
        for output in (tmp_path / "whole", tmp_path / "cut")
    ]
    assert timeless[0] == timeless[1]


def test_a_diverged_run_says_so(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--set", "optim.lr=1e30", "--set", "optim.weight_decay=1"]
    output = tmp_path / "out"
    assert main(["--config", str(config), "--output", str(output), "--device", "cpu", *settings]) == 1
    message = capsys.readouterr().err
    assert "diverged at step" in message
    assert "metrics.jsonl" in message


BAD = [
    (["optim.lrr=1"], ["tiny.yaml", "optim.lrr", "did you mean optim.lr?"]),
    (["hidden_size=64"], ["hidden_size", "did you mean model.hidden_size?"]),
    (["optim.lr=fast"], ["optim.lr", "must be a valid number", "'fast'"]),
    (["optim.lr=-1"], ["optim.lr", "greater than 0", "-1"]),
    (["model.mixer.kind=mpl"], ["model.mixer.kind", "'mpl'", "did you mean mlp?"]),
    (["model.mixer.num_heads=3"], ["num_heads", "3", "16"]),
    (["model.mixer.d_state=3"], ["model.mixer.d_state", "unknown key"]),
    (["optim.lr.x=3"], ["optim.lr.x", "0.001"]),
    (["optim.lr"], ["optim.lr", "path=value"]),
    (["optim.betas=[0.9"], ["[0.9"]),
    (["optim.lr_warmup_steps=100"], ["lr_warmup_steps", "100", "8"]),
    (["data.source=csv"], ["train"]),
    (["data.task=mzae"], ["data.task", "'mzae'", "did you mean maze?"]),
    (["data.task=maze"], ["data.source", "'embedded'", "'generated'"]),
    (["data.task=maze", "data.source=generated", "data.sise=6"], ["data.sise", "did you mean data.size?"]),
    (["optim.betas=[0.9,1.0]"], ["optim.betas", "less than 1", "1.0"]),
    (["model.mixer.kind=mamba", "model.mixer.expand=.inf"], ["model.mixer.expand", "finite", "inf"]),
]


@pytest.mark.parametrize(("settings", "says"), BAD, ids=lambda value: str(value[0]))
def test_bad_settings_are_refused_in_one_message(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], says: list[str]
) -> None:
    output = tmp_path / "out"
    arguments = [part for setting in settings for part in ("--set", setting)]
    assert main(["--config", str(config), "--output", str(output), "--device", "cpu", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    for part in says:
        assert part in captured.err
    assert not output.exists()


def test_a_damaged_or_impossible_output_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--config", str(config), "--device", "cpu", "--output"]
    (tmp_path / "file").touch()
    for arguments, words in (
        ([str(tmp_path / "file" / "out")], "cannot be written"),
        ([str(tmp_path / "new"), "--seed", str(10**30)], "--seed 1000"),
        ([str(tmp_path / "new"), "--seed", "-1"], "--seed -1"),
    ):
        assert main([*command, *arguments]) == 2
        err = capsys.readouterr().err
        assert words in err and len(err.splitlines()) == 1
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "run.json").write_text("{")
    assert main([*command, str(damaged), "--resume"]) == 2
    assert "run.json: is damaged" in capsys.readouterr().err


def test_a_run_that_lost_its_metrics_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--config", str(config), "--device", "cpu", "--output", str(tmp_path / "out")]
    assert main(command) == 0
    (tmp_path / "out" / "metrics.jsonl").unlink()
    assert main([*command, "--resume"]) == 2
    assert "metrics.jsonl: lacks the reports" in capsys.readouterr().err


def test_bad_files_are_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: no such file" in capsys.readouterr().err
    bad = tmp_path / "bad.yaml"
    bad.write_text("- 1\n")
    assert main(["--config", str(bad)]) == 2
    assert "must be a mapping" in capsys.readouterr().err
    bad.write_text("model: {}\nmodel: {}\n")
    assert main(["--config", str(bad)]) == 2
    assert "bad.yaml:2: duplicate key 'model'" in capsys.readouterr().err
    missing = ["--set", "data.source=csv", "--set", "data.train=gone.csv", "--set", "data.test=gone.csv"]
    assert main(["--config", str(config), *missing]) == 2
    assert "gone.csv" in capsys.readouterr().err
    assert main(["--config", str(config), "--device", "cuda:99"]) == 2
    assert "cuda:99" in capsys.readouterr().err
    assert main(["--config", str(config), "--resume"]) == 2
    assert "contains no run to resume" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_auto_device_is_one_that_exists() -> None:
    assert resolve_device(resolve_device("auto")) == resolve_device("auto")


def test_as_a_command(config: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "trm", "--config", str(config), *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )

    bad = run("--set", "optim.lrr=1")
    assert bad.returncode == 2
    assert "Traceback" not in bad.stderr
    assert not (tmp_path / "runs").exists()


def test_the_base_recipe_is_the_default_one() -> None:
    """Every key of it spelled out, and all but the data as in the code's defaults."""
    config = load_config(ROOT / "search_spaces" / "base" / "trm_sudoku.yaml", [])
    default = TrialConfig(data=config.data, eval=config.eval)
    assert config == default
    assert config.model_fields_set == set(TrialConfig.model_fields)
    for part in ("model", "loss", "optim", "train", "eval"):
        group = getattr(config, part)
        assert group.model_fields_set == set(type(group).model_fields), part
    assert config.train.max_steps == 65105


@pytest.mark.parametrize(
    ("name", "cells"), [("smoke_4x4", 16), ("mini_6x6", 36), ("mini_maze", 64), ("trm_maze", 900)]
)
def test_the_other_recipes_load(name: str, cells: int) -> None:
    config = load_config(ROOT / "search_spaces" / "base" / f"{name}.yaml", [])
    assert config.data.shape.seq_len == cells
