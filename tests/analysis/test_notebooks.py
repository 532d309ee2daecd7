"""The notebooks run top to bottom on the study that each names, on made-up results of its search space, and
on odd sweeps. Where the study ships, its notebook is committed with its outputs."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from analysis.__main__ import main
from analysis.notebook import NOTEBOOKS, execute, new_client, run_notebook, write_notebook
from analysis.sweep import AnalysisError
from tests.analysis.played import played, played_space
from tests.analysis.synthetic import RECORDED
from tests.conftest import ROOT
from tests.sweeps.spaces import TUNE

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
ODD = ("one arm, one seed", "none completed", "search alone", "a level of some arms")
LARGEST = 400_000  # bytes
each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def study_of(path: Path) -> Path:
    """The results that the notebook names in its first code cell, the one tagged `parameters`."""
    first = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    assert first.metadata.get("tags") == ["parameters"]
    [named] = re.findall(r'^SWEEP_DIR = "(.+?)"', first.source, re.MULTILINE)
    return ROOT / named


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def texts(notebook: Any) -> list[str]:
    """What the cells show, without pictures."""
    found = []
    for output in outputs(notebook):
        shown = {"text": output.text} if output.output_type == "stream" else output.data
        found += [f"{kind}: {text}" for kind, text in sorted(shown.items()) if kind != "image/png"]
    return found


def number_of_pictures(notebook: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


@pytest.fixture(scope="module")
def shared_client() -> Iterator[NotebookClient]:
    """With one kernel for all runs: to start one, and to import, takes longer than to run a notebook."""
    client = new_client(new_notebook())
    with client.setup_kernel():
        yield client


@pytest.fixture
def client(shared_client: NotebookClient) -> NotebookClient:
    """Without the names of the notebook before."""
    execute(new_notebook(cells=[new_code_cell("%reset_selective -f .")]), shared_client)
    return shared_client


def check(notebook: Any) -> None:
    """Nothing warned, and what was worked out by hand is what the library has."""
    assert not [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    assert "equal: False" not in "".join(texts(notebook))


def test_each_study_has_its_notebook() -> None:
    studies = {path.stem: study_of(path).name for path in PATHS}
    own = {name: f"mini_{name}" for name in ("mixers", "cycles", "d_state", "layers")}
    assert studies == {**own, "curves": "mini_mixers"}
    assert all((ROOT / "search_spaces" / f"{name}.yaml").exists() for name in studies.values())


@each_notebook
def test_what_is_committed_is_what_a_run_gives(path: Path, client: NotebookClient) -> None:
    """Without outputs, before its study ships. `python -m analysis notebook NAME --refresh` makes them."""
    committed = nbformat.read(path, as_version=4)
    if not (study_of(path) / "trials.parquet").exists():
        assert not outputs(committed)
        return
    again = run_notebook(path, client=client)
    check(again)
    assert texts(committed) == texts(again)
    assert number_of_pictures(committed) == number_of_pictures(again) >= 2
    assert path.stat().st_size < LARGEST
    assert str(ROOT) not in path.read_text()


@each_notebook
def test_nothing_tells_when_it_ran(path: Path) -> None:
    content = json.loads(path.read_text())
    assert content["metadata"]["language_info"] == {"name": "python"}
    assert all(set(cell["metadata"]) <= {"tags"} for cell in content["cells"])


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sweeps by name: of the studies' own spaces, and odd ones."""
    folder = tmp_path_factory.mktemp("sweeps")
    spaces = ("mini_mixers", "mini_cycles", "mini_cycles_flops", "mini_d_state", "mini_layers")
    found = {name: played_space(folder, ROOT / "search_spaces" / f"{name}.yaml") for name in spaces}
    search = {"draws_per_arm": 3, "seeds": [0], "keep": 1}
    tuning = {"ablate": None, "tune": TUNE, "search": search, "seeds": [1]}
    two = {"model.kind": ["a", "b"], "lr": [0.1, 0.2]}
    some = {"model.kind": ["a", "b"], "lr": {"values": [0.1, 0.2], "when": {"model.kind": ["b"]}}}
    return found | {
        "one arm, one seed": played(_new(folder / "one"), lambda arm, seed: 0.5, **tuning),
        "a level of some arms": played(_new(folder / "some"), _value, ablate=some),
        "none completed": played(_new(folder / "lost"), lambda arm, seed: math.inf, ablate=two),
        "search alone": RECORDED,
    }


def _value(arm: str, seed: int) -> float:
    return 0.5 + 0.01 * len(arm) + 0.02 * float(np.random.default_rng([len(arm), seed]).normal())


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


@each_notebook
@pytest.mark.parametrize("name", ["its own", *ODD])
def test_it_runs_on(path: Path, name: str, made_up: dict[str, Path], client: NotebookClient) -> None:
    folder = made_up[study_of(path).name if name == "its own" else name]
    notebook = run_notebook(path, folder, client)
    check(notebook)
    if name == "its own" and path.stem != "curves":
        assert "equal: True" in "".join(texts(notebook))


def test_results_that_are_not_there_are_one_sentence(tmp_path: Path, client: NotebookClient) -> None:
    """Which names the command that makes them; in the notebook too, without a traceback."""
    with pytest.raises(AnalysisError, match=r"`python run_sweep\.py mini_cycles` makes those") as error:
        run_notebook(NOTEBOOKS / "cycles.ipynb", tmp_path / "mini_cycles", client)
    assert isinstance(error.value.__cause__, CellExecutionError)
    shown = error.value.__cause__.traceback.rpartition("-" * 18)[2]  # below the cell's code
    assert shown.strip() == f"AnalysisError: {error.value}"


def test_a_copy_is_written_beside_the_results(tmp_path: Path, client: NotebookClient) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(RECORDED, folder)
    source = NOTEBOOKS / "curves.ipynb"
    before = source.read_bytes()
    assert write_notebook("curves", folder, client) == folder / "curves.ipynb"
    copy = nbformat.read(folder / "curves.ipynb", as_version=4)
    nbformat.validate(copy)
    assert f"SWEEP_DIR = {str(folder)!r}" in copy.cells[1].source and number_of_pictures(copy) >= 2
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["curvs", str(RECORDED)], "there is no notebook curvs: there are: curves, cycles"),
        (["cycles", "results/none"], "results/none is no folder"),
    ],
)
def test_a_mistake_is_one_message(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["notebook", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_folder_or_refresh_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["results/smoke", "--refresh"]):
        with pytest.raises(SystemExit):
            main(["notebook", "curves", *arguments])
        assert "--refresh" in capsys.readouterr().err
