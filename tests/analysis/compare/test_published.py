"""Arms beside published figures: which agree, and how well the order does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.__main__ import main
from analysis.compare.published import beside_published, rank_correlation, read_published
from analysis.sweep import AnalysisError, load_sweep
from sweeps.plan.build import load_plan
from tests.analysis.played import played_space
from tests.analysis.synthetic import Fake, write_sweep
from tests.conftest import ROOT

PUBLISHED = {"base": 0.50, "up": 0.80, "down": 0.20, "surprise": 0.30, "near": 0.52}
# How far each really is: one published as worse is better here, and one differs by less than seeds do.
FOUND = {"base": 0.50, "up": 0.75, "down": 0.25, "surprise": 0.90, "near": 0.501}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fakes = {arm: Fake(final) for arm, final in FOUND.items()}
    return write_sweep(tmp_path / "some", fakes, seeds=tuple(range(8)), phase="evidence")


def figures(tmp_path: Path, published: dict[str, float]) -> Path:
    path = tmp_path / "paper.csv"
    lines = [f"{arm},{value}" for arm, value in published.items()]
    path.write_text("\n".join(["# a paper", "arm,published", *lines]))
    return path


def test_each_arm_agrees_or_not(folder: Path) -> None:
    table = beside_published(load_sweep(folder), PUBLISHED | {"not swept": 0.9}).set_index("arm")
    assert list(table.index) == ["up", "near", "base", "surprise", "down"]  # in the published order
    expected = {"up": "yes", "near": "open", "base": "", "surprise": "no", "down": "yes"}
    assert table["agrees"].to_dict() == expected
    assert table["published_diff"]["surprise"] == pytest.approx(-0.2)
    assert table["published_rank"].to_dict()["up"] == 1 and table["mean_rank"].to_dict()["surprise"] == 1


def test_the_rank_correlation_covers_what_it_estimates() -> None:
    """The interval holds the true one in about 95% of draws of nine arms from a normal pair."""
    rng, true = np.random.default_rng(0), 0.6
    spearman = 6 / np.pi * np.arcsin(true / 2)
    held = 0
    for _ in range(2_000):
        draws = rng.multivariate_normal([0, 0], [[1, true], [true, 1]], 9)
        found = rank_correlation(pd.DataFrame(draws, columns=["published", "mean"]))
        held += found.low <= spearman <= found.high or bool(np.isnan(found.low))
    assert 0.93 < held / 2_000 < 0.99
    assert found.value == pytest.approx(stats.spearmanr(draws).statistic)


def test_few_arms_and_a_perfect_order_have_no_interval() -> None:
    table = pd.DataFrame({"published": [1.0, 2, 3, 4, 5], "mean": [1.0, 2, 3, 4, 5]})
    assert rank_correlation(table).value == pytest.approx(1) and np.isnan(rank_correlation(table).low)
    assert np.isnan(rank_correlation(table.head(3)).low)


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["published", str(folder), str(figures(tmp_path, PUBLISHED))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split("  ")[0] == "arm" and lines[3].startswith("up") and lines[3].endswith("yes")
    assert next(line for line in lines if line.startswith("base")).endswith("baseline")
    assert any(line.startswith("Rank correlation (Spearman) over 5 arms: 0.") for line in lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arm,value\nbase,1\n", "has the columns arm, value: it needs arm and published"),
        ("arm,published\nbase,0.5\nbase,0.6\n", "has base twice"),
        ("arm,published\nbase,0.5\nup,most\n", "the figure of up is no finite number"),
        ("", "is no CSV"),
        ("arm,published\nup,0.5\ndown,0.6\n", "the baseline base among them"),
    ],
)
def test_bad_figures_are_refused(folder: Path, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(AnalysisError, match=said):
        beside_published(load_sweep(folder), read_published(path))


@pytest.mark.parametrize("name", ["trm_table1", "mini_table1"])
def test_table_1_has_a_figure_for_each_row(name: str) -> None:
    plan = load_plan(ROOT / "search_spaces" / f"{name}.yaml")
    assert set(read_published(ROOT / "search_spaces" / "trm_table1.csv")) == {arm.name for arm in plan.arms}


def test_an_arm_is_compared_with_the_same_one_in_both(tmp_path: Path) -> None:
    """Question best: the verdicts are against the best arm, not against the baseline."""
    sweep = load_sweep(played_space(tmp_path, ROOT / "search_spaces" / "mini_mixers.yaml"))
    published = {arm: place / 10 for place, arm in enumerate(sweep.arms)}  # the order in which it was made up
    table = beside_published(sweep, published).set_index("arm")
    assert (table["verdict"] == "worse").sum() >= 5
    for row in table.itertuples():
        assert row.published_diff == pytest.approx(published[str(row.Index)] - published[str(row.against)])
        assert row.agrees != "no" and (row.verdict != "worse" or row.agrees == "yes")
    apart = beside_published(sweep, {arm: published[arm] for arm in ("attention", "mlp")}).set_index("arm")
    assert set(apart["agrees"]) == {"open"}  # what these are compared with was not published
