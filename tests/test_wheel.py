"""The project as a wheel: what is in it, and that it works outside a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import trm
from tests.conftest import ROOT

PARTS = (  # not the checkout itself: a build leaves files where it is made, and takes up old ones
    *("pyproject.toml", "README.md", "LICENSE", "run_sweep.py"),
    *("trm", "sweeps", "analysis", "search_spaces", "tests", "docs", "benchmarks"),
)
PACKAGED = ("trm", "sweeps", "analysis", "search_spaces")
LEFT_OUT = {".ipynb", ".pyc"}  # notebooks are for a checkout


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for part in PARTS:
        target = source / part
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            source.mkdir(exist_ok=True)
            shutil.copy(ROOT / part, target)
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, source)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it, which sees the libraries of the one that runs the tests.

    It sees them by a .pth file, after its own. Their own .pth files count for nothing there, so that an
    editable installation of the project among them is not found.
    """
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder)
    pip("--python", folder, "install", "--no-deps", "--no-index", wheel)
    (packages,) = folder.glob("lib/python*/site-packages")
    libraries = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "libraries.pth").write_text("\n".join(libraries))
    return folder


@pytest.fixture
def run(environment: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program of the environment, outside the checkout."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def start(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(environment / "bin" / program), *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=60
        )

    return start


def test_the_wheel_holds_code_and_data_of_the_packages_and_nothing_else(wheel: Path) -> None:
    files = [path for package in PACKAGED for path in (ROOT / package).rglob("*") if path.is_file()]
    wanted = {path.relative_to(ROOT).as_posix() for path in files if path.suffix not in LEFT_OUT}
    assert {"trm/mixers/kernels/scan.c", "trm/data/sudoku/generated_hard_train.csv.gz"} <= wanted
    held = set(zipfile.ZipFile(wheel).namelist())
    about = {name for name in held if name.startswith(f"trm_sweeps-{trm.__version__}.dist-info/")}
    assert about and held - about == wanted


def test_it_is_the_wheel_that_runs(
    run: Callable[..., subprocess.CompletedProcess[str]], environment: Path
) -> None:
    code = "import sweeps, trm, analysis; print(sweeps.__file__, trm.__file__, analysis.__file__)"
    done = run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert all(Path(file).is_relative_to(environment) for file in done.stdout.split())


def test_a_shipped_search_space_is_planned(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run("trm-sweeps", "run", "smoke", "--dry-run")
    assert done.returncode == 0, done.stderr
    rows = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    assert {"attention", "mlp", "mamba", "mamba2"} <= set(rows)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_name_is_bad_input(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run("trm-sweeps", "run", "smokr", "--dry-run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("trm-sweeps: smokr: no such file") and "did you mean smoke?" in done.stderr
    assert list(tmp_path.iterdir()) == []
