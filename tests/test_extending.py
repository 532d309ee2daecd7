"""docs/extending.md: what it adds to mixers and tasks works as the page has it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.extending import add, commands, copy, run

PARTS = ("trm", "sweeps", "analysis", "search_spaces", "tests", "run_sweep.py", "pyproject.toml")
SHORT = [  # two reports of two steps
    *("train.max_samples=256", "eval.every_samples=128", "eval.depth_steps=0", "optim.lr_warmup_steps=1"),
    *("data.num_train=100", "data.num_val=20", "data.num_test=20"),
]


def extended(section: str, folder: Path) -> Path:
    """A copy of the project, with the section's files and lines."""
    add(copy(folder, *PARTS), section)
    return folder


def train_shortly(project: Path, command: list[str]) -> None:
    """Run a command of the page that trains, to its end, with SHORT beside what it sets."""
    settings = [word for setting in SHORT for word in ("--set", setting)]
    run(project, *command, *settings, "--output", "out")
    rows = [json.loads(line) for line in (project / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [row["samples"] for row in rows] == [128, 256]


def test_a_mixer(tmp_path: Path) -> None:
    project = extended("A mixer", tmp_path)
    train, sweep, suite = commands("A mixer")
    train_shortly(project, train)
    assert "3 arms x 3 seeds" in run(project, *sweep)
    assert " passed" in run(project, *suite)


def test_a_task(tmp_path: Path) -> None:
    project = extended("A task", tmp_path)
    train, suite = commands("A task")
    train_shortly(project, train)
    assert " passed" in run(project, *suite)
