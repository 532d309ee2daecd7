"""The audit of early stopping, on sweeps whose truth is known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.compare.ranking import counted_trials
from analysis.report.build import render
from analysis.stopping.audit import audit, audit_text, ties_text, weighted_rank_correlation
from analysis.sweep import Sweep, load_sweep
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep

RUNG = 100_000.0


def searched(folder: Path, finals: list[float], rungs: list[float], actions: list[str]) -> Sweep:
    """An arm of as many draws; those that were stopped have no final value."""
    sweep = load_sweep(write_sweep(folder, {"mlp": Fake(0.5)}, seeds=(0,), draws=tuple(range(len(finals)))))
    statuses = ["pruned" if action == "stop" else "completed" for action in actions]
    audited = [action == "audit" for action in actions]
    trials = sweep.trials.assign(**{OBJECTIVE: finals, "status": statuses, "audited": audited})
    decisions = pd.DataFrame({
        "member": [f"mlp-d{draw}" for draw in range(len(finals))], "trial_id": trials["trial_id"],
        "rung": RUNG, "value": rungs, "cutoff": 0.5, "action": actions, "tied": 0,
    })  # fmt: skip
    space = {**sweep.space, "scheduler": {**sweep.space["scheduler"], "audit": 0.5}}
    return dataclasses.replace(sweep, trials=trials, decisions=decisions, space=space)


def test_without_an_audit_there_is_nothing_to_say(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s", {"mlp": Fake(0.5), "ssm": Fake(0.2, stop=0.25)}))
    assert audit(sweep) is None and audit_text(sweep) == "" and ties_text(sweep) == ""


def test_an_audited_draw_that_beats_the_survivors_is_counted(tmp_path: Path) -> None:
    sweep = searched(
        tmp_path / "s",
        finals=[0.7, 0.6, 0.9, 0.1, 0.2, float("nan"), float("nan")],
        rungs=[0.7, 0.6, 0.4, 0.3, 0.35, 0.2, 0.1],
        actions=["continue", "continue", "audit", "audit", "audit", "stop", "stop"],
    )
    found = audit(sweep)
    assert found is not None and (found.stopped, found.seen, found.won) == (5, 3, 1)
    assert (found.pools, found.pools_won) == (1, 1) and np.isnan(found.interval).all()
    text = audit_text(sweep)
    assert "of 5 draws that were to be stopped, 3 ran to their end" in text
    assert "1 of them beat every survivor of its pool." in text and "at 100k (n = 5)" in text
    assert "below 4 pools no interval is given" in text and "%" not in text
    assert text in render(sweep)


def test_draws_that_win_together_count_as_one_pool(tmp_path: Path) -> None:
    """Five arms of three draws; in one arm both audited draws beat the survivor."""
    sweep = load_sweep(
        write_sweep(tmp_path / "s", {arm: Fake(0.5) for arm in "abcde"}, seeds=(0,), draws=(0, 1, 2))
    )
    finals = [0.5, 0.9, 0.8] + [0.5, 0.1, 0.2] * 4
    actions = ["continue", "audit", "audit"] * 5
    trials = sweep.trials.assign(**{OBJECTIVE: finals, "status": "completed"})
    members = trials["arm"] + "-d" + trials["draw"].astype(str)
    decisions = pd.DataFrame(
        {"member": members, "trial_id": trials["trial_id"], "rung": RUNG, "value": finals, "action": actions}
    )
    scheduler = {**sweep.space["scheduler"], "audit": 0.5, "scope": "arm"}
    space = {**sweep.space, "scheduler": scheduler}
    sweep = dataclasses.replace(sweep, trials=trials, decisions=decisions, space=space)
    found = audit(sweep)
    assert found is not None and (found.seen, found.won, found.pools, found.pools_won) == (10, 2, 5, 1)
    oracle = stats.binomtest(1, 5).proportion_ci(0.95)
    assert found.interval == pytest.approx((oracle.low, oracle.high))
    assert "in 1 of 5 an audited draw would have won (1% to 72%, 95% interval over pools)" in audit_text(
        sweep
    )


def test_stops_within_each_arm_that_were_all_right_are_reported(tmp_path: Path) -> None:
    sweep = searched(
        tmp_path / "s", [0.7, 0.6, float("nan")], [0.7, 0.6, 0.4], ["continue", "continue", "stop"]
    )
    space = {**sweep.space, "scheduler": {**sweep.space["scheduler"], "scope": "arm"}}
    assert "it was stopped with the better value" not in render(dataclasses.replace(sweep, space=space))
    swapped = sweep.decisions.assign(value=[0.7, 0.3, 0.4])
    told = render(dataclasses.replace(sweep, space=space, decisions=swapped))
    assert "it was stopped with the better value" in told


def test_code_that_changed_between_launches_is_a_limit(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"mlp": Fake(0.5), "ssm": Fake(0.2)})
    launches = [{"time": 0, "event": "launch", "code": code} for code in ("0.1+a", "0.1+a", "0.1+b")]
    (folder / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in launches))
    assert "the code changed between launches (0.1+a and 0.1+b)" in render(load_sweep(folder))
    (folder / "journal.jsonl").write_text(json.dumps(launches[0]) + "\n")
    assert "the code changed" not in render(load_sweep(folder))


def test_two_audited_draws_are_too_few_for_a_correlation(tmp_path: Path) -> None:
    sweep = searched(
        tmp_path / "s", [0.7, 0.6, 0.9, 0.1], [0.7, 0.6, 0.4, 0.3], ["continue"] * 2 + ["audit"] * 2
    )
    found = audit(sweep)
    assert found is not None and found.seen == 2 and found.correlation == {}
    assert "Rank correlation" not in audit_text(sweep)


def test_an_audited_draw_that_diverged_was_seen_and_did_not_win(tmp_path: Path) -> None:
    sweep = searched(tmp_path / "s", [0.7, 0.6, 0.9], [0.7, 0.4, 0.3], ["continue", "audit", "audit"])
    trials = sweep.trials.assign(status=["completed", "completed", "diverged"])
    found = audit(dataclasses.replace(sweep, trials=trials))
    assert found is not None and (found.seen, found.won) == (2, 0)


def test_evidence_that_was_overtaken_is_no_part_of_the_search(tmp_path: Path) -> None:
    sweep = searched(tmp_path / "s", [0.7, 0.9], [0.7, 0.4], ["continue", "audit"])
    overtaken = sweep.trials.iloc[[1]].assign(seed=7, trial_id="mlp-d1-s7", **{OBJECTIVE: -9.0})
    trials = pd.concat([sweep.trials, overtaken], ignore_index=True)
    space = {**sweep.space, "tune": {"optim.lr": {}}, "search": {"seeds": [0]}}
    found = audit(dataclasses.replace(sweep, trials=trials, space=space))
    assert found is not None and (found.seen, found.won) == (1, 1)


def test_it_enters_no_mean(tmp_path: Path) -> None:
    sweep = searched(tmp_path / "s", [0.7, 0.9], [0.7, 0.4], ["continue", "audit"])
    assert list(counted_trials(sweep)["draw"]) == [0]


def test_weights_are_copies_and_equal_weights_are_spearman() -> None:
    rng = np.random.default_rng(0)
    x, y = pd.Series(rng.normal(size=12).round(1)), pd.Series(rng.normal(size=12).round(1))
    one = pd.Series("sweep", index=x.index)
    even = weighted_rank_correlation(x, y, pd.Series(1.0, index=x.index), one)
    assert even == pytest.approx(stats.spearmanr(x, y).statistic)
    weights = pd.Series(rng.integers(1, 5, size=12).astype(float))
    copies = np.repeat(np.arange(12), weights.astype(int))
    of_copies = stats.spearmanr(x[copies], y[copies]).statistic
    assert weighted_rank_correlation(x, y, weights, one) == pytest.approx(of_copies)


def test_the_weighted_correlation_is_unbiased_by_what_was_stopped() -> None:
    """Survivors alone are a selected lot, whose correlation is too small; with the audited ones it is not."""
    rng = np.random.default_rng(1)
    n, share = 40_000, 0.1
    rung = rng.normal(size=n)
    final = 0.6 * rung + 0.8 * rng.normal(size=n)
    stopped = rung < np.quantile(rung, 2 / 3)
    seen = ~stopped | (rng.random(n) < share)
    truth = stats.spearmanr(rung, final).statistic
    x, y = pd.Series(rung[seen]).iloc[:3000], pd.Series(final[seen]).iloc[:3000]
    w = pd.Series(np.where(stopped[seen], 1 / share, 1.0)).iloc[:3000]
    survivors = stats.spearmanr(rung[~stopped], final[~stopped]).statistic
    assert survivors < truth - 0.2
    one = pd.Series("sweep", index=x.index)
    assert weighted_rank_correlation(x, y, w, one) == pytest.approx(truth, abs=0.07)


def test_pools_of_few_members_are_close_to_the_truth_together() -> None:
    """Four arms of eight draws, five of which are to be stopped: what a sweep has."""
    rng = np.random.default_rng(2)
    share, told, survivors = 0.2, [], []
    for _ in range(300):
        rung = rng.normal(size=(4, 8))
        final = 0.6 * rung + 0.8 * rng.normal(size=(4, 8)) + rng.normal(size=(4, 1))
        stopped = rung < np.sort(rung, axis=1)[:, [5]]
        seen = (~stopped | (rng.random((4, 8)) < share)).ravel()
        if (stopped.ravel() & seen).sum() < 3:
            continue
        pools = pd.Series(np.repeat(np.arange(4), 8)[seen])
        w = pd.Series(np.where(stopped.ravel()[seen], 1 / share, 1.0))
        x, y = pd.Series(rung.ravel()[seen]), pd.Series(final.ravel()[seen])
        told.append(weighted_rank_correlation(x, y, w, pools))
        kept = ~stopped.ravel()[seen]
        survivors.append(weighted_rank_correlation(x[kept], y[kept], w[kept], pools[kept]))
    assert np.mean(survivors) < 0.35
    assert 0.42 < np.mean(told) < 0.58  # of 0.55: with few of them audited it errs towards 0


def test_ties_at_the_cut_off_are_told(tmp_path: Path) -> None:
    sweep = searched(tmp_path / "s", [0.7, 0.6, 0.9], [0.5, 0.5, 0.5], ["continue"] * 3)
    sweep = dataclasses.replace(sweep, decisions=sweep.decisions.assign(tied=2))
    assert "3 at 100k went on with the very value of the cut-off" in ties_text(sweep)
