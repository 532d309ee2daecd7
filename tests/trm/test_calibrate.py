"""What a trial is said to cost, against what one does cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trm.test_trainer import FakeTrial, make_config
from trm import trainer


def test_a_few_steps_tell_what_a_trial_takes(tmp_path: Path) -> None:
    config = make_config(train={"max_samples": 16 * 100}, eval={"every_samples": 16 * 25})
    told = trainer.calibrate(config, "cpu")["seconds_per_sample"]
    trial = FakeTrial(tmp_path)
    trainer.train(config, trial)
    took = trial.rows[-1]["wall_s"] / config.train.max_samples
    assert took / 4 < told < took * 4  # a busy machine; a wrong unit or a forgotten part is further off


@pytest.mark.parametrize("steps", [5, 6])
def test_a_run_of_few_steps_can_be_timed(steps: int) -> None:
    config = make_config(train={"max_samples": 16 * steps}, optim={"lr_warmup_steps": 1})
    assert trainer.calibrate(config, "cpu")["seconds_per_sample"] > 0
