"""The plain composition takes the same step as the trainer: else its time would compare with nothing."""

from __future__ import annotations

import pytest
import torch

from benchmarks.reference_step import KINDS, PUBLISHED, ReferenceTrainer, measure
from benchmarks.training_step import config_of
from trm.loop import Trainer
from trm.trial import NullTrial

TINY = ["model.hidden_size=32", "train.batch_size=4", "model.h_cycles=2", "model.l_cycles=2", "optim.lr=1e-3"]
FEW = ["data.num_train=16", "data.num_val=4", "data.num_test=4", "data.num_aug=0", "optim.lr_warmup_steps=0"]


@pytest.mark.parametrize("kind", KINDS)
def test_both_take_the_same_steps(kind: str) -> None:
    heads = ["model.mixer.num_heads=2"] if kind == "attention" else []
    config = config_of(PUBLISHED, kind, [*TINY, *FEW, *heads])
    ours, plain = (made(config, NullTrial("cpu")) for made in (Trainer, ReferenceTrainer))
    for step in range(1, 5):
        for trainer in (ours, plain):
            trainer.model.train()
            trainer.train_step(step)
    expected = dict(ours.model.named_parameters())
    for name, weight in plain.model.named_parameters():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=1e-5)
    for name, weight in plain.shadow.items():
        torch.testing.assert_close(weight, ours.ema.shadow[name], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(plain.carry.z_H, ours.carry.z_H, rtol=1e-3, atol=1e-3)
    assert torch.equal(plain.carry.halted, ours.carry.halted)
    assert measure(config, 1, 1)["times as fast"] > 0
