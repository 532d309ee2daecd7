"""The estimate of a step's memory, and what is said where it does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trm.test_trainer import FakeTrial, make_config
from trm.loop import Trainer
from trm.memory import step_memory
from trm.trainer import train


def test_weights_are_counted_with_all_that_is_kept_of_them() -> None:
    averaged, plain = (
        step_memory(make_config(optim={"ema_decay": decay}), torch.float32) for decay in (0.9, 0.0)
    )
    parameters = sum(p.numel() for p in Trainer(make_config(), FakeTrial(Path())).model.parameters())
    assert averaged.weights == 6 * 4 * parameters and plain.weights == 5 * 4 * parameters
    muon = step_memory(make_config(optim={"kind": "muon"}), torch.float32)
    linear = [p for n, p in Trainer(make_config(), FakeTrial(Path())).model.block.named_parameters()]
    assert averaged.weights - muon.weights == 4 * sum(p.numel() for p in linear)


@pytest.mark.parametrize("kind", ["mlp", "attention", "mamba", "mamba2"])
def test_what_is_saved_grows_with_the_rows_at_once(kind: str) -> None:
    few, all_ = (
        step_memory(make_config(kind, train={"micro_batch": rows}), torch.float32) for rows in (4, 16)
    )
    # Besides what there is of each row, masks and tables that do not depend on their number.
    assert 2.5 * few.saved < all_.saved <= 4 * few.saved
    assert few.carry == all_.carry and few.weights == all_.weights


@pytest.mark.parametrize("recursions", [1, 2])
def test_what_is_saved_is_what_a_step_saves(recursions: int) -> None:
    config = make_config("mlp", model={"gradient_h_cycles": recursions})
    trainer = Trainer(config, FakeTrial(Path()))
    trainer.model.train()
    own = {p.untyped_storage().data_ptr() for p in (*trainer.model.parameters(), *trainer.model.buffers())}
    saved: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trainer.train_step(1)
    measured = sum(size for size, _ in saved.values())
    assert step_memory(config, torch.float32).saved == pytest.approx(measured, rel=0.1)


def test_a_step_that_does_not_fit_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    config = make_config()
    monkeypatch.setattr("trm.loop.supervision_loss", full)
    with pytest.raises(torch.OutOfMemoryError, match=r"16 rows at a time .* GiB .* set train.micro_batch"):
        train(config, FakeTrial(tmp_path))


def test_micro_batches_have_the_gradients_of_the_batch(tmp_path: Path) -> None:
    """Up to the order of the sums; the carry, the halting and the sums of the metrics too."""
    for act in ("halt", "continue"):
        steps = []
        for rows in (None, 4):
            model = {"act": act, "latent_noise": 0.1, "latent_dropout": 0.1}
            config = make_config(train={"micro_batch": rows}, model=model)
            trainer = Trainer(config, FakeTrial(tmp_path))
            trainer.model.train()
            for step in (1, 2, 3):
                trainer.train_step(step)
            steps.append(trainer)
        whole, parts = steps
        for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
        for name, value in vars(whole.carry).items():
            torch.testing.assert_close(value, getattr(parts.carry, name), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(whole.totals, parts.totals, rtol=1e-5, atol=1e-6)


def test_a_micro_batch_divides_the_batch() -> None:
    with pytest.raises(ValueError, match=r"train.micro_batch is 5, which does not divide .*16"):
        make_config(train={"micro_batch": 5})
