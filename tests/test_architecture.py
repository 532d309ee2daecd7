"""The shape of the code, read from its own imports, wherever they stand in a file.

Packages import one way: run_sweep -> sweeps -> {trm, analysis}. Inside a package a folder imports only
folders that stand before it in FOLDERS, and no two files import each other, directly or by a longer circle.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("trm", "analysis", "sweeps")
FORBIDDEN = {
    "trm": {"ray", "mlflow", "optuna", "pandas", "sweeps", "analysis", "run_sweep"},
    "analysis": {"torch", "ray", "optuna", "trm", "sweeps", "run_sweep"},
    "sweeps": {"run_sweep"},
}
# What a folder may import stands before it; files of a package's root are named one by one where a folder
# needs them, and "*" are all others.
FOLDERS = {
    "trm": ("settings", "cache", "grid", "layers", "mixers", "data", "model_config", "config", "*"),
    "analysis": (
        "inference",
        *("format", "sweep", "design"),
        *("compare", "trm_metrics", "stopping", "explain", "figures", "report", "*"),
    ),
    "sweeps": ("schedulers", "space", "plan", "record", "decide", "execute", "observe", "*"),
}
ONLY = {  # a library, and the places in `sweeps` that may import it
    "ray": ("sweeps/execute/",),
    "optuna": ("sweeps/plan/draws.py", "sweeps/decide/search.py"),
    "mlflow": ("sweeps/observe/mlflow_",),
    "analysis.report": ("sweeps/report.py",),
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@lru_cache
def files() -> dict[str, Path]:
    """Every module of the packages, and run_sweep."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {module_of(path): path for path in [*paths, ROOT / "run_sweep.py"]}


@lru_cache
def imports(module: str) -> frozenset[str]:
    """Dotted names that a module imports. Of `from a import b` it is a.b where that is a module of ours,
    else a."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(files()[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{module}: imports are absolute here"
            inner = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in files() else node.module for name in inner.values()}
    return frozenset(found)


def is_in(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def rank(module: str) -> int:
    package, *rest = module.split(".")
    order = FOLDERS[package]
    return order.index(rest[0]) if rest and rest[0] in order else order.index("*")


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_one_way(package: str) -> None:
    for module in files():
        if is_in(module, package):
            tops = {name.partition(".")[0] for name in imports(module)}
            assert not tops & FORBIDDEN[package], module


@pytest.mark.parametrize("package", FOLDERS)
def test_a_folder_imports_only_folders_before_it(package: str) -> None:
    upward = [
        f"{module} imports {name}"
        for module in files()
        for name in imports(module)
        if is_in(module, package) and is_in(name, package) and name != package and rank(name) > rank(module)
    ]
    assert not upward


@pytest.mark.parametrize("package", FOLDERS)
def test_every_folder_has_a_place_in_the_order(package: str) -> None:
    folders = {path.name for path in (ROOT / package).iterdir() if (path / "__init__.py").exists()}
    assert folders <= set(FOLDERS[package])


def test_no_files_import_each_other() -> None:
    graph = {module: {name for name in imports(module) if name in files()} - {module} for module in files()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("library", ONLY)
def test_a_library_is_known_in_few_places(library: str) -> None:
    for module, path in files().items():
        where = path.relative_to(ROOT).as_posix()
        if is_in(module, "sweeps") and any(is_in(name, library) for name in imports(module)):
            assert where.startswith(ONLY[library]), f"{where} imports {library}"


def test_nothing_of_the_analysis_comes_by_its_bare_name() -> None:
    """`from analysis import write_report` would hide which part is meant."""
    for module in files():
        assert not (is_in(module, "sweeps") and "analysis" in imports(module)), module


def test_decisions_know_of_the_analysis_its_inference_alone() -> None:
    for module in files():
        if is_in(module, "sweeps.decide"):
            known = {name for name in imports(module) if is_in(name, "analysis")}
            assert all(is_in(name, "analysis.inference") for name in known), module


@pytest.mark.parametrize("package", PACKAGES)
def test_the_tests_stand_where_the_code_does(package: str) -> None:
    """A folder of tests is one of the package's, so that a reader finds them."""
    for folder in (ROOT / "tests" / package).rglob("test_*.py"):
        inside = folder.parent.relative_to(ROOT / "tests")
        assert (ROOT / inside).is_dir(), folder


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("trm.trainer", ["ray", "mlflow", "optuna", "pandas", "torch._dynamo", "triton"]),
        ("analysis.report.build", ["torch", "ray", "mlflow"]),
        ("sweeps.observe.preview", ["ray", "mlflow", "pandas"]),
        ("sweeps.observe.mlflow_child", ["ray", "mlflow", "torch", "optuna", "pandas"]),
        ("sweeps", ["ray", "mlflow", "torch", "pandas"]),
        ("sweeps.__main__, sweeps.status_text, sweeps.watch", ["ray", "mlflow", "torch", "pandas", "scipy"]),
        ("sweeps.verbs", ["ray", "mlflow", "torch", "pandas"]),
        (
            "analysis.inference.intervals, analysis.inference.significance, analysis.inference.power",
            ["pandas", "matplotlib", "statsmodels"],
        ),
    ],
)
def test_importing_a_part_loads_no_more_than_it_needs(module: str, absent: list[str]) -> None:
    code = f"import sys, {module}; print(*[name for name in {absent!r} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.split() == []
