"""What a sweep has cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.compare.spent import spent
from analysis.report.build import render
from analysis.sweep import load_sweep
from tests.analysis.synthetic import Fake, write_sweep


def test_hours_are_by_what_each_trial_was_given(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"a": Fake(0.5), "b": Fake(0.6, stop=0.25)}, seeds=(1, 2))
    sweep = load_sweep(folder)
    hours = sweep.trials["wall_s"].sum() / 3600
    assert spent(sweep).core_hours == pytest.approx(hours) and spent(sweep).gpu_hours == 0
    assert spent(sweep).flops == sweep.trials["flops"].sum()
    start = {"event": "start", "trial_id": "a-d0-s1", "cpu": 4.0, "gpu": 0.5, "config": {}}
    launch = {
        "event": "launch",
        "hardware": "a processor, 4 cores",
        "commit": "abc, with uncommitted changes",
    }
    lines = [json.dumps(each) for each in (launch, start, start)]  # a second attempt is in its wall time
    (folder / "journal.jsonl").write_text("\n".join(lines) + "\n")
    sweep, own = load_sweep(folder), sweep.trials["wall_s"][0] / 3600
    assert spent(sweep).core_hours == pytest.approx(hours + 3 * own)
    assert spent(sweep).gpu_hours == pytest.approx(0.5 * own)
    page = render(sweep)
    assert "a processor, 4 cores" in page and "abc, with uncommitted changes" in page
    assert "core-hours" in page and "GPU-hours" in page
