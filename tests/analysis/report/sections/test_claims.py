"""Effects and spread are not of the arms' means: the page states them in a table, the headline by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis.compare.ranking import rank_arms
from analysis.format import p_text
from analysis.report import page, sentences
from analysis.report.sections.base import Results
from analysis.report.sections.claims import SECTION
from analysis.report.verdicts import verdicts
from analysis.sweep import Sweep, load_sweep
from tests.analysis.played import played, played_space
from tests.analysis.report.sections.cells import cells
from tests.conftest import ROOT


def shown(sweep: Sweep) -> list[list[str]]:
    results = Results(sweep, rank_arms(sweep), drawn=[], questions=[], steps=[])
    return cells(page.html(SECTION.parts(results)))


def test_each_effect_and_interaction_has_its_row_with_the_p_that_decides(tmp_path: Path) -> None:
    sweep = load_sweep(played_space(tmp_path, ROOT / "search_spaces" / "mini_layers.yaml"))
    rows = {tuple(row[:2]): row for row in shown(sweep)[1:]}
    found = verdicts(sweep)["comparisons"]
    assert len(rows) == len(found) == 5
    for each in found:
        row = rows[each["arm"], each["against"]]
        assert row[2].startswith(f"{100 * each['diff']:+.1f}[".replace("-", "−"))
        assert row[3].startswith(p_text(each["p_adjusted"])) and row[4].startswith(each["verdict"])


def test_the_headline_names_each_effect_with_its_own_reference(tmp_path: Path) -> None:
    """Two layers are the reference of the layers, not of the mixer."""
    sweep = load_sweep(played_space(tmp_path, ROOT / "search_spaces" / "mini_layers.yaml"))
    said = sentences.headline(sweep, rank_arms(sweep))
    assert "model.mixer.kind=attention (than mlp)" in said
    assert "model.num_layers=4 (than 2)" in said and "Better: " in said
    assert "Better than" not in said
    assert "ranks first" not in sentences.verdict(sweep, rank_arms(sweep))  # which was not asked


def test_effects_of_one_reference_share_it(tmp_path: Path) -> None:
    sweep = load_sweep(
        played(
            tmp_path,
            lambda arm, seed: 0.3 + 0.1 * "abc".index(arm[-1]) + 0.01 * seed,
            ablate={"model.kind": ["a", "b", "c"]},
            evidence={"question": "effects"},
        )
    )
    assert sentences.headline(sweep, rank_arms(sweep)) == (
        "Better than model.kind=a: model.kind=b and model.kind=c."
    )


def test_spread_is_shown_and_a_comparison_of_means_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    luck = {arm: rng.normal(0, sd, 16) for arm, sd in (("a", 0.01), ("b", 0.1))}
    seeds = list(range(1, 17))

    def value(arm: str, seed: int) -> float:
        return float(0.5 + luck[arm[-1]][seed - 1])

    ablate = {"model.kind": ["a", "b"]}
    (tmp_path / "spread").mkdir()
    (tmp_path / "means").mkdir()
    of_spread = load_sweep(
        played(tmp_path / "spread", value, ablate=ablate, seeds=seeds, evidence={"question": "spread"})
    )
    [_, row] = shown(of_spread)
    [each] = verdicts(of_spread)["comparisons"]
    assert row[:2] == [each["arm"], each["against"]] and row[4].startswith("worse")
    assert not shown(load_sweep(played(tmp_path / "means", value, ablate=ablate, seeds=[1, 2, 3])))
