"""The model on mazes: the small recipe learns, and boards of 900 cells are scanned in chunks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from trm.__main__ import load_config
from trm.config import TrialConfig
from trm.mixers.kernels import ssd
from trm.model import build_model
from trm.trainer import train
from trm.trial import LocalTrial


def small_recipe(*settings: str) -> TrialConfig:
    return load_config(ROOT / "search_spaces" / "base" / "mini_maze.yaml", list(settings))


@pytest.mark.parametrize("kind", ["attention", "mlp"])
def test_the_small_recipe_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """In thirty steps to copy the maze; the path takes the minutes that the recipe says."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = "data={task: maze, size: 6, num_train: 100, num_val: 20, num_test: 20}"
    steps = (
        "train.batch_size=16",
        "train.max_samples=480",
        "eval.every_samples=160",
        "optim.lr_warmup_steps=5",
    )
    few = ("model.halt_max_steps=2", "optim.ema_decay=0.5", f"model.mixer.kind={kind}")
    trial = LocalTrial(tmp_path / "run", seed=0, device="cpu")
    train(small_recipe(data, *steps, *few), trial)
    first, *_, last = trial.history
    assert last["step"] == 30 and last["train/loss"] < first["train/loss"]
    assert first["val/cell_accuracy"] < last["val/cell_accuracy"]
    assert 0 <= last["test/exact_accuracy"] <= last["test/cell_accuracy"] <= 1


def test_nine_hundred_cells_are_scanned_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quadratic form would hold 916 x 916 numbers a head and a row."""
    spans: list[int] = []
    whole = ssd.decay_matrix
    monkeypatch.setattr(ssd, "decay_matrix", lambda x: spans.append(x.shape[-1]) or whole(x))
    config = small_recipe(
        "data={task: maze, size: 30}", "model.hidden_size=16", "model.puzzle_emb_len=16",
        "model.mixer={kind: mamba2, headdim: 4, expand: 1.0, d_state: 4, direction: bidirectional}",
    )  # fmt: skip
    assert config.seq_len == 916
    model = build_model(config, seed=0, device="cpu").eval()
    tokens = torch.randint(1, 6, (1, 900), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    _, output = model(model.initial_carry(1, tokens.device), tokens, tokens)
    assert output.logits.shape == (1, 900, 6)
    assert spans and max(spans) == 64
