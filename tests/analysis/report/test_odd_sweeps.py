"""Sweeps that are nearly empty, very large or oddly named: a whole and right page, or one message."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.report.__main__ import main
from analysis.report.build import render, write_report
from analysis.report.latex import escape
from analysis.sweep import load_sweep
from tests.analysis.played import played
from tests.analysis.report.test_report import Page
from tests.analysis.synthetic import EXACT, Fake, write_sweep

LONG = "mixer=" + "very_long_level_name-" * 9 + "end of it"
SCRIPTS = ("注意機構", "Внимание", "انتباه", "ध्यान", "🧩", "τ=0.5")


def page_of(folder: Path) -> Page:
    """Of the report, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = Page(render(load_sweep(folder)))
    told = page.text.partition("as resolved")[0].replace("is nan", "")  # the reason of a diverged trial
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", told)
    return page


def test_one_arm_of_one_seed(tmp_path: Path) -> None:
    page = page_of(write_sweep(tmp_path / "s", {"only": Fake(0.8)}, seeds=(1,), phase="evidence"))
    assert page.headline == "only ranks first: it is the only arm."
    assert "difference" not in " ".join(page.row("arm")) or page.row("only")[-1]


def test_one_seed_an_arm_claims_nothing(tmp_path: Path) -> None:
    arms = {"a": Fake(0.8), "b": Fake(0.9)}
    page = page_of(write_sweep(tmp_path / "s", arms, seeds=(1,), phase="evidence", space=EXACT))
    assert page.headline == "Not settled: b."


@pytest.mark.parametrize("status", ["diverged", "failed", "not_started"])
def test_all_diverged_or_none_completed_is_one_message(tmp_path: Path, status: str, capsys) -> None:
    arms = {name: Fake(0.8, statuses=dict.fromkeys((0, 1), status)) for name in "ab"}
    folder = write_sweep(tmp_path / "s", arms, phase="evidence")
    before = sorted(folder.iterdir())
    assert main([str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: s: no trial has completed with a finite val/exact_accuracy")
    assert f"4 {status}" in said and said.count("\n") == 1
    assert sorted(folder.iterdir()) == before


def test_a_foreign_trainer_that_reports_little(tmp_path: Path) -> None:
    """Neither parameters nor FLOPs nor a test split, and an objective that falls."""
    arms = {name: Fake(final, params=None, flops=None) for name, final in (("a", 0.3), ("b", 0.6))}
    space: dict[str, Any] = {"trainer": "parabola:train", "objective": {"metric": "loss", "mode": "min"}}
    folder = write_sweep(tmp_path / "s", arms, test=False, space={**space, "scheduler": {"kind": "fifo"}})
    for name in ("trials", "history"):
        table = pd.read_parquet(folder / f"{name}.parquet").drop(columns="val/cell_accuracy")
        renamed = table.rename(columns=lambda column: column.replace("val/exact_accuracy", "loss"))
        renamed.to_parquet(folder / f"{name}.parquet")
    page = page_of(folder)
    assert page.cell("a", "loss") < page.cell("b", "loss") and page.rows[1][0] == "● a"
    assert "%" not in "".join(page.row("arm"))


def test_sixty_arms(tmp_path: Path) -> None:
    arms = {f"arm{i:02}": Fake(0.3 + 0.01 * i, params=10**5 * (1 + i)) for i in range(60)}
    page = page_of(write_sweep(tmp_path / "s", arms, seeds=(1, 2)))
    first = [row[0] for row in page.rows[1:61]]
    assert sorted(first) == [f"● {arm}" for arm in sorted(arms)]
    assert "Of 60 arms 12 are drawn" in page.text
    assert all("too few seeds" in page.cell(arm, "difference") for arm in arms if arm != "arm00")


def test_names_that_are_long_or_of_other_scripts(tmp_path: Path) -> None:
    names = ["base", LONG, *SCRIPTS]
    folder = write_sweep(tmp_path / "s", {name: Fake(0.5) for name in names})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert not list(folder.glob(".*"))
    assert {f"● {name}" for name in names} <= {row[0] for row in page.rows}
    latex = (folder / "report" / "table.tex").read_text(encoding="utf-8")
    assert "LuaLaTeX" in latex and all(name in latex for name in SCRIPTS)
    row = next(line for line in latex.splitlines() if line.startswith("mixer="))
    assert len(row.partition(r"\tnote")[0]) < 60 and latex.count(escape(LONG)) == 1


def test_an_arm_that_has_not_begun_has_no_numbers(tmp_path: Path) -> None:
    folder = played(tmp_path, lambda arm, seed: float("nan") if arm == "d" else 0.5 + 0.01 * seed)
    page = page_of(folder)
    assert page.row("d")[1].startswith("–") and "diverged" in page.row("d")[0]
    assert load_sweep(folder).arms == ["a", "b", "c", "d"]
