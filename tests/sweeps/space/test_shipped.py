"""A search space that is shipped, by its name: on the command line and from Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import run_sweep
from sweeps.__main__ import main
from sweeps.plan.build import load_plan
from sweeps.space.shipped import shipped_names
from tests.conftest import ROOT
from tests.sweeps.spaces import write_space


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_names_are_those_of_the_files() -> None:
    assert shipped_names() == sorted(path.stem for path in (ROOT / "search_spaces").glob("*.yaml"))


@pytest.mark.parametrize("name", shipped_names())
def test_a_name_is_the_same_sweep_as_its_file(name: str) -> None:
    assert load_plan(Path(name)).hash == load_plan(ROOT / "search_spaces" / f"{name}.yaml").hash


def test_both_commands_find_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_sweep.main(["smoke", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("smoke: maximise val/exact_accuracy")
    assert main(["run", "smoke", "--dry-run"]) == 0
    assert capsys.readouterr().out == shown


def test_a_file_of_the_name_comes_first(tmp_path: Path) -> None:
    write_space(tmp_path).rename(tmp_path / "smoke")
    assert load_plan(Path("smoke")).spec.name == "toy"


def test_a_folder_of_the_name_is_no_search_space(tmp_path: Path) -> None:
    (tmp_path / "smoke").mkdir()
    assert load_plan(Path("smoke")).sources.path == ROOT / "search_spaces" / "smoke.yaml"


@pytest.mark.parametrize("given", ["smokr", "smoke.yaml", "somewhere/smokes.yml"])
def test_a_wrong_name_is_refused_with_those_that_there_are(
    given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", given]) == 2
    out, err = capsys.readouterr()
    assert out == "" and list(tmp_path.iterdir()) == []
    assert f": {given}: no such file" in err and len(err.splitlines()) == 1
    assert "did you mean smoke?" in err and err.endswith(f"{', '.join(shipped_names())}\n")


def test_a_wrong_path_is_refused_with_the_file_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").touch()
    assert main(["run", str(tmp_path / "mien.yaml")]) == 2
    assert f"did you mean {tmp_path / 'mine.yaml'}?" in capsys.readouterr().err


def test_a_name_like_no_other_has_no_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "zzz"]) == 2
    assert "did you mean" not in capsys.readouterr().err


def test_a_path_that_cannot_be_looked_at_is_told_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "x" * 300]) == 2
    assert "cannot be read: File name too long" in capsys.readouterr().err


def test_help_tells_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    told = capsys.readouterr().out.replace(",", " ").split()
    assert set(shipped_names()) <= set(told)


def test_python_runs_it_and_loads_nothing_heavy_before(tmp_path: Path) -> None:
    code = (
        "import sys; from sweeps import run\n"
        "print({'torch', 'ray', 'mlflow', 'optuna', 'pandas', 'numpy', 'pydantic'} & set(sys.modules))\n"
        "print(run('smoke', dry_run=True).status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0] == "set()" and "4 arms x 2 seeds = 8 trials" in done.stdout and lines[-1] == "0"
    assert list(tmp_path.iterdir()) == []
