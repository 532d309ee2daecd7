"""docs/extending.md: what it adds to schedulers, figures, sections and trainers works as the page has it."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.synthetic import RECORDED
from tests.conftest import ROOT
from tests.extending import add, copy, run
from tests.sweeps.spaces import write_space


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages with the page's scheduler, and the conformance suite."""
    folder = copy(
        tmp_path_factory.mktemp("scheduler"),
        *("sweeps", "analysis", "trm", "run_sweep.py", "pyproject.toml"),
        *("tests/__init__.py", "tests/conftest.py", "tests/sweeps/__init__.py"),
        *("tests/sweeps/schedulers", "tests/sweeps/toy_trainer.py"),
    )
    add(folder, "A scheduler")
    return folder


def test_the_scheduler_conforms(scheduled: Path) -> None:
    out = run(scheduled, "-m", "pytest", "tests/sweeps/schedulers/test_conformance.py", "-k", "trailing")
    assert " passed" in out


def test_a_dry_run_names_the_schedulers_rungs(scheduled: Path) -> None:
    scheduler = {"kind": "trailing", "gap": 0.1, "grace_period": 20, "max_t": 100}
    space = write_space(scheduled, scheduler=scheduler)
    out = run(scheduled, "run_sweep.py", space.name, "--dry-run")
    assert "Stopping: trailing" in out and "rungs at 20, 40, 60, 80 samples" in out


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report's folder, with the page's figure and section in it."""
    folder = copy(tmp_path_factory.mktemp("report"), "analysis")
    add(folder, "A figure")
    add(folder, "A section of the report")
    shutil.copytree(RECORDED, folder / "recorded")
    run(folder, "-m", "analysis.report", "recorded")
    return folder / "recorded"


def test_the_figure_is_on_the_page_and_beside_it(reported: Path) -> None:
    page = (reported / "report.html").read_text()
    section = page.partition("<h2>Accuracy against size and compute</h2>")[2].partition("</section>")[0]
    assert "<figcaption>Wall time of each completed trial.</figcaption>" in section
    assert {"wall_time.png", "wall_time.pdf"} <= {path.name for path in (reported / "report").iterdir()}


def test_the_section_is_on_the_page(reported: Path) -> None:
    page = (reported / "report.html").read_text()
    section = page.partition("<h2>Every seed</h2>")[2].partition("</section>")[0]
    assert "Last val exact accuracy of every completed trial" in section and "<td" in section


class LocalTrial:
    """Keeps what is reported, and each report's checkpoint."""

    seed, device = 1, "cpu"

    def __init__(self, folder: Path, checkpoint: Path | None = None) -> None:
        self.folder, self.checkpoint = folder, checkpoint
        self.reports: list[dict[str, float]] = []

    def report(self, metrics: dict[str, float], checkpoint: str) -> None:
        self.reports.append(metrics)
        shutil.copytree(checkpoint, self.folder / str(metrics["step"]))


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The page's trainer as a module, in a folder with the page's search space."""
    add(tmp_path, "A trainer")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("parabola")
    sys.modules.pop("parabola")


def test_the_trainer_is_planned(trainer: Any, tmp_path: Path) -> None:
    out = run(tmp_path, str(ROOT / "run_sweep.py"), "parabola.yaml", "--dry-run")
    assert "parabola: minimise val/loss; parabola:train" in out
    assert "2 arms x 4 draws" in out and "rungs at 10, 20, 30, 40 samples" in out


def test_the_trainer_runs_to_its_end_and_goes_on_from_a_checkpoint(trainer: Any, tmp_path: Path) -> None:
    config = trainer.Config(start="far")
    whole = LocalTrial(tmp_path / "whole")
    trainer.train(config, whole)
    assert [report["step"] for report in whole.reports] == list(range(1, 51))
    assert set(trainer.describe(config)["metrics"]) < set(whole.reports[-1])
    assert whole.reports[-1]["val/loss"] < whole.reports[0]["val/loss"] / 100
    rest = LocalTrial(tmp_path / "rest", checkpoint=tmp_path / "whole" / "30")
    trainer.train(config, rest)
    assert rest.reports == whole.reports[30:]
