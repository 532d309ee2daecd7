"""What a trainer may report."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.execute.worker import Payload, TrialHandle


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("width", "the metric 'width' is also the name of ablate.width"),
        ("optim.lr", "the metric 'optim.lr' is also the name of tune.optim.lr"),
        ("arm", "the metric 'arm' is a column of the tables"),
    ],
)
def test_a_metric_with_the_name_of_another_column_fails_the_report(
    tmp_path: Path, name: str, words: str
) -> None:
    payload = Payload(
        trial_id="a-d0-s1",
        trainer="tests.sweeps.toy_trainer:train",
        config={},
        seed=1,
        checkpoints=str(tmp_path / "a"),
        log=str(tmp_path / "log"),
        metric="accuracy",
        mode="max",
        cpu=1,
        gpu=0,
        factors=["width"],
        tuned=["optim.lr"],
    )
    trial = TrialHandle(payload, "cpu")
    with pytest.raises(ValueError, match=words):
        trial.report({"step": 1, "samples": 10, "accuracy": 0.5, name: 3})
