"""Arms of which trials were stopped."""

from __future__ import annotations

from pathlib import Path

from analysis.compare.ranking import rank_arms
from analysis.report import page
from analysis.report.sections.ranking import both_tests
from analysis.report.sections.stopped import common_samples
from analysis.stopping.common_samples import at_common_samples
from analysis.sweep import Sweep, load_sweep
from tests.analysis.report.sections.cells import cells
from tests.analysis.synthetic import Fake, write_sweep


def test_stopped_arms_are_compared_where_nobody_was_stopped_yet(tmp_path: Path) -> None:
    arms = {"base": Fake(0.7), "weak": Fake(0.4, stop=0.25)}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=(0, 1, 2)))
    html, found = page.html(common_samples(sweep)), at_common_samples(sweep).set_index("arm")
    rows = {row[0]: row for row in cells(html)}
    assert rows["weak"][1:3] == ["3", "3"] and rows["base"][2] == "0"
    median, least, most = (f"{100 * found.loc['weak', name]:.1f}" for name in ("median", "least", "most"))
    assert rows["weak"][3] == f"{median}{least} to {most}" and "after 100k samples" in html
    assert rows["weak"][4].endswith(f"ahead in {found.loc['weak', 'ahead']} of 3")
    assert "no p is given" in html and "[" not in "".join(rows["weak"])
    assert both_tests(sweep, rank_arms(sweep)) == []


def test_a_sweep_run_to_its_end_needs_no_common_samples(grid: Sweep) -> None:
    assert common_samples(grid) == []
