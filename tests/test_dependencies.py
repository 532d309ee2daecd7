"""What is declared in pyproject.toml is what the packages import, and every version is pinned."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import lru_cache
from importlib.metadata import packages_distributions

from tests.conftest import ROOT

PACKAGES = ("trm", "sweeps", "analysis")
OPTIONAL = {
    "mamba_ssm": "a faster backend on GPUs; where it is missing, the project's own scan runs",
    "triton": "the extra `kernels`; where it is missing, the project's own scan runs",
    "IPython": "imported in a notebook alone, which has it",
    "nbclient": "the extra `notebooks`; where it is missing, a message names it",
    "nbformat": "the extra `notebooks`; where it is missing, a message names it",
}
NOT_IMPORTED = {  # declared all the same
    "pyarrow": "pandas reads and writes parquet through it",
}


def normal(name: str) -> str:
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution(requirement: str) -> str:
    """`ray[tune]>=2.50` asks for `ray`."""
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return normal(name[0])


def project() -> dict[str, list[str]]:
    """The requirements: of the project itself under "", and of each extra."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"": table["dependencies"], **table["optional-dependencies"]}


def declared(extra: str = "") -> set[str]:
    return {distribution(requirement) for requirement in project()[extra]}


@lru_cache
def imported() -> frozenset[str]:
    """The top-level names that the packages import, without Python's own and the project's."""
    found: set[str] = set()
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    for path in [*paths, ROOT / "run_sweep.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module))
    return frozenset({name.partition(".")[0] for name in found} - sys.stdlib_module_names - {*PACKAGES})


@lru_cache
def distributions() -> dict[str, set[str]]:
    """Of each import name, the installed distributions that provide it."""
    return {name: {normal(each) for each in found} for name, found in packages_distributions().items()}


def test_what_is_imported_is_declared() -> None:
    known = distributions()
    assert not {name for name in imported() - {*OPTIONAL} if not known.get(name, set()) & declared()}


def test_what_is_declared_is_imported() -> None:
    used = {each for name in imported() - {*OPTIONAL} for each in distributions()[name]}
    assert not declared() - used - {*NOT_IMPORTED}


def test_exceptions_are_still_needed() -> None:
    assert set(OPTIONAL) <= imported()
    assert set(NOT_IMPORTED) <= declared()


def test_every_declared_distribution_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    pinned = {distribution(line) for line in lines}
    assert {each for extra in project() for each in declared(extra)} - {"trm-sweeps"} <= pinned
