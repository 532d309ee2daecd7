"""Imports run one way: run_sweep -> sweeps -> trm; analysis stands apart. Inside trm: layers <- mixers, data
<- config <- model <- trainer. The text says so, and so does what a process has loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FORBIDDEN = {
    "trm": {"ray", "mlflow", "optuna", "pandas", "sweeps", "analysis"},
    "analysis": {"torch", "ray", "trm", "sweeps"},
    "sweeps": {"analysis", "run_sweep"},
}
ONLY = {
    "ray": {"sweeps/cluster.py", "sweeps/engine.py", "sweeps/trainable.py"},
    "optuna": {"sweeps/search.py", "sweeps/draws.py"},
}


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_layer_knows_only_those_below_it(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        tops = {name.partition(".")[0] for name in imports(path)}
        assert not tops & FORBIDDEN[package], path


@pytest.mark.parametrize("library", ONLY)
def test_a_library_is_known_in_few_places(library: str) -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "sweeps").rglob("*.py")
        if any(name.partition(".")[0] == library for name in imports(path))
    }
    assert users <= ONLY[library]


def test_inside_trm_imports_run_one_way() -> None:
    rank = {
        **dict.fromkeys(("yaml", "messages", "grid", "layers"), 0),
        **dict.fromkeys(("mixers", "data"), 1),
        "config": 2,
        **dict.fromkeys(("block", "flops"), 3),
        "model": 4,
        **dict.fromkeys(("losses", "ema", "optim"), 5),
        **dict.fromkeys(("evaluate", "chosen"), 6),
        "depth": 7,
        "execution": 7,
        "trainer": 8,
    }
    for path in (ROOT / "trm").rglob("*.py"):
        here = path.relative_to(ROOT / "trm").parts[0].removesuffix(".py")
        if here not in rank:
            continue
        text = path.read_text().partition("if TYPE_CHECKING:")[0]
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "trm" and len(parts) > 1 and f"from {name}" in text:
                assert rank.get(parts[1], 0) <= rank[here], f"{path} imports {name}"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("trm.trainer", ["ray", "mlflow", "optuna", "pandas", "torch._dynamo"]),
        ("analysis.report", ["torch", "ray", "mlflow"]),
        ("sweeps.preview", ["ray", "mlflow"]),
    ],
)
def test_importing_a_part_loads_no_more_than_it_needs(module: str, absent: list[str]) -> None:
    code = f"import sys, {module}; print(*[name for name in {absent!r} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.split() == []
