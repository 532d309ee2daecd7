"""The notebooks run top to bottom, on a recorded sweep or on made-up results of the arms that theirs has, and
are committed without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from sweeps.plan.build import load_plan
from sweeps.plan.identity import resolved
from tests.analysis.synthetic import RECORDED, Fake, write_sweep

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "analysis" / "notebooks").glob("*.ipynb"))
OF_ANY_SWEEP = {"ablation", "curves"}


def results_for(name: str, folder: Path) -> Path:
    """Results of the search space of that name, with its own arms, levels and sizes; or the recorded ones."""
    if name in OF_ANY_SWEEP:
        return RECORDED
    space = resolved(load_plan(ROOT / "search_spaces" / f"{name}.yaml"))
    fakes = {}
    for i, (arm, known) in enumerate(space["resolved"]["arms"].items()):
        sizes = (known["num_params"], known["flops_per_sample"])
        fakes[arm] = Fake(0.4 + 0.04 * i, 0.3 + 0.02 * i, *sizes, levels=known["levels"])
    return write_sweep(folder / name, fakes, seeds=(1, 2, 3), phase="evidence")


def test_each_study_has_its_notebook() -> None:
    assert {path.stem for path in NOTEBOOKS} == OF_ANY_SWEEP | {"mixers", "cycles", "d_state", "layers"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None, (
            f"{path.name}: clear its outputs"
        )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_top_to_bottom(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_DIR", str(results_for(path.stem, tmp_path)))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in shown if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 2
    assert any("text/html" in output.get("data", {}) for output in shown)  # a table
