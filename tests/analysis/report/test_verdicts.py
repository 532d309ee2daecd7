"""verdicts.json: the contract's keys, and claims where the trials and the rule carry them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis.__main__ import main
from analysis.report.build import render
from analysis.report.verdicts import to_json, verdicts
from analysis.sweep import load_sweep
from tests.analysis.played import played
from tests.analysis.synthetic import Fake, write_sweep
from tests.sweeps.launches import run
from tests.sweeps.playing import FOUR, value
from tests.sweeps.spaces import TUNE, write_space

KEYS = [
    "sweep",
    "metric",
    "baseline",
    "rule",
    "about",
    "looks",
    "comparisons",
    "best_set",
    "best_set_is_claim",
    "open",
]
COMPARED = {
    "arm", "n", "n_baseline", "seeds", "seeds_baseline", "diff", "low", "high", "p", "p_adjusted", "look",
    "verdict", "claim", "note",
}  # fmt: skip
VERDICTS = {"better", "worse", "equivalent", "not settled", "too few seeds"}


def read(folder: Path) -> dict[str, Any]:
    """The content as a program reads it: JSON has no NaN."""

    def refuse(name: str) -> float:
        raise ValueError(f"{name} is no JSON")

    found = json.loads(to_json(verdicts(load_sweep(folder))), parse_constant=refuse)
    assert isinstance(found, dict)
    return found


def by_arm(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["arm"]: row for row in content["comparisons"]}


def asked_again(folder: Path, **evidence: Any) -> Path:
    """The same results, with other keys of `evidence` in sweep.yaml."""
    space = yaml.safe_load((folder / "sweep.yaml").read_text())
    space["evidence"] = {**space["evidence"], **evidence}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    return folder


def test_a_launch_leaves_what_the_command_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three seeds carry no looks; the report beside it has the same numbers."""
    space = write_space(tmp_path, seeds=[1, 2, 3])
    done = run(tmp_path, space, "--quiet")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results" / "toy"
    capsys.readouterr()
    assert main(["verdicts", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert printed == (folder / "verdicts.json").read_text()
    content = json.loads(printed)
    assert list(content) == KEYS and content["looks"] == [3] and content["rule"]["level"] == 0.04
    assert [row["verdict"] for row in content["comparisons"]] == ["better", "better"]
    assert all(set(row) >= COMPARED and row["claim"] and not row["note"] for row in content["comparisons"])
    assert all(row["seeds"] == row["seeds_baseline"] == [1, 2, 3] for row in content["comparisons"])
    assert (content["baseline"], content["metric"], content["open"]) == ("a", "accuracy", [])


@pytest.mark.parametrize("question", ["baseline", "best"])
@pytest.mark.parametrize("truth", range(4))
def test_an_interval_leaves_out_0_exactly_where_the_verdict_is_better_or_worse(
    tmp_path: Path, question: str, truth: int
) -> None:
    """Effects from 0 to 3 SD, decided at every look."""
    rng = np.random.default_rng(truth)
    means = dict(zip("abcd", 0.5 + 0.02 * rng.uniform(-3, 3, size=4), strict=True))

    def of(arm: str, seed: int) -> float:
        return means[arm] + 0.02 * float(np.random.default_rng([truth, ord(arm), seed]).normal())

    content = read(played(tmp_path, of, evidence={"question": question, "futility": 0.02}))
    assert content["looks"] == [3, 4, 5, 6, 8] and list(content) == KEYS
    for row in content["comparisons"]:
        assert row["verdict"] in VERDICTS and row["claim"] and 1 <= row["look"] <= 5
        assert (row["low"] > 0 or row["high"] < 0) == (row["verdict"] in ("better", "worse"))
        assert (row["p_adjusted"] <= 0.04) == (row["verdict"] in ("better", "worse"))
        assert row["n"] == len(row["seeds"]) and row["n_baseline"] == len(row["seeds_baseline"])
        assert row["low"] < row["diff"] < row["high"] and row["p"] <= row["p_adjusted"]
    assert content["best_set_is_claim"] == (question == "best") and content["best_set"]


def test_the_difference_is_over_the_seeds_that_are_named(tmp_path: Path) -> None:
    row = by_arm(read(played(tmp_path)))["b"]
    means = [np.mean([value(arm, seed) for seed in row[seeds]])
             for arm, seeds in (("b", "seeds"), ("a", "seeds_baseline"))]  # fmt: skip
    assert row["diff"] == pytest.approx(means[0] - means[1]) and row["n"] < 8


def test_what_was_stopped_as_futile_is_closed_and_says_so(tmp_path: Path) -> None:
    content = read(played(tmp_path, evidence={"futility": 0.05}))
    row = by_arm(content)["c"]
    assert row["note"] == f"stopped for futility at look {row['look']}"
    assert row["verdict"] == "not settled" and row["claim"] and content["open"] == []


def test_what_the_last_look_leaves_open_is_listed(tmp_path: Path) -> None:
    assert read(played(tmp_path))["open"] == ["c"]


def test_an_equivalent_arms_interval_lies_within_the_margin(tmp_path: Path) -> None:
    content = read(played(tmp_path, ablate={"model.kind": ["a", "c"]}, evidence={"margin": 0.1}))
    (row,) = content["comparisons"]
    assert row["verdict"] == "equivalent" and -0.1 < row["low"] <= 0 <= row["high"] < 0.1
    assert row["p_equivalent"] <= row["p_equivalent_adjusted"] <= 0.04


def test_an_old_sweep_has_one_level_and_no_looks(tmp_path: Path) -> None:
    arms = {"a": Fake(0.5), "b": Fake(0.9), "c": Fake(0.49)}
    content = read(write_sweep(tmp_path / "old", arms, seeds=tuple(range(1, 9)), phase="evidence"))
    assert (content["looks"], content["rule"]["level"], content["rule"]["looks"]) == ([], 0.05, [])
    better = by_arm(content)["b"]
    assert better["verdict"] == "better" and better["low"] > 0 and better["claim"]
    assert better["look"] is None and better["note"] == ""
    assert content["open"] == ["c"]


def test_an_old_sweep_that_was_extended_claims_nothing(tmp_path: Path) -> None:
    arms = {"a": Fake(0.5), "b": Fake(0.9)}
    folder = write_sweep(tmp_path / "old", arms, seeds=tuple(range(1, 9)), phase="evidence")
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write(json.dumps({"event": "extend", "hash": "x"}) + "\n")
    content = read(folder)
    (row,) = content["comparisons"]
    assert not row["claim"] and "p no longer holds at 5%" in row["note"] and content["open"] == []


def test_exploratory_trials_carry_no_claim(tmp_path: Path) -> None:
    content = read(write_sweep(tmp_path / "s", {"a": Fake(0.5), "b": Fake(0.9)}, seeds=(1, 2, 3, 4)))
    (row,) = content["comparisons"]
    assert row["verdict"] == "not settled" and not row["claim"] and row["note"].startswith("exploratory")
    assert row["diff"] == pytest.approx(0.4, abs=0.05)
    assert [row[name] for name in ("low", "high", "p", "p_adjusted", "look")] == [None] * 5
    assert content["best_set"] == [] and content["open"] == []


def test_another_rule_than_the_recorded_one_carries_no_claim_and_both_are_named(tmp_path: Path) -> None:
    folder = asked_again(played(tmp_path), test="permutation", margin=0.01)
    content = read(folder)
    for row in content["comparisons"]:
        assert not row["claim"] and row["look"] is None
        assert "test: permutation instead of t" in row["note"]
        assert "margin: 0.01 instead of none" in row["note"]
    assert content["rule"]["test"] == "permutation" and not content["best_set_is_claim"]
    page = render(load_sweep(folder))
    assert "No claim: analysed again under another rule" in page


def test_a_question_asked_afterwards_is_no_claim(tmp_path: Path) -> None:
    content = read(asked_again(played(tmp_path), question="best"))
    assert not content["best_set_is_claim"] and not any(row["claim"] for row in content["comparisons"])
    assert "The best is one of" not in render(load_sweep(tmp_path / "results" / "toy"))


def test_an_extension_is_noted_with_its_level(tmp_path: Path) -> None:
    two: dict[str, Any] = {"ablate": {"model.kind": ["a", "c"]}, "evidence": {"looks": "none"}}
    played(tmp_path, **two, seeds=[1, 2, 3, 4])
    (row,) = read(played(tmp_path, **two))["comparisons"]
    assert row["note"] == "extension 1, of its own seeds, at level 0.005" and row["claim"]
    assert row["seeds"] == row["seeds_baseline"] == [5, 6, 7, 8]


def test_a_question_that_is_asked_once_claims_nothing_after_an_extension(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"ablate": {"model.kind": ["a", "b"]}, "evidence": {"question": "effects"}}
    before = read(played(tmp_path, **changes, seeds=[1, 2, 3, 4]))["comparisons"]
    assert [(row["arm"], row["verdict"], row["claim"]) for row in before] == [
        ("model.kind=b", "better", True)
    ]
    after = read(played(tmp_path, **changes))["comparisons"]
    assert not after[0]["claim"] and "asked once" in after[0]["note"]


def test_verdicts_on_trials_that_were_changed_after_a_look_are_no_claims(tmp_path: Path) -> None:
    tuned: dict[str, Any] = {"tune": TUNE}
    content = read(played(tmp_path, **tuned, search={"draws_per_arm": 2}))
    assert all(row["claim"] for row in content["comparisons"])
    content = read(played(tmp_path, **tuned, search={"draws_per_arm": 4}))
    assert not any(row["claim"] for row in content["comparisons"])
    assert "other draws were chosen" in content["comparisons"][0]["note"]


def test_an_e_process_carries_claims(tmp_path: Path) -> None:
    content = read(played(tmp_path, evidence={"looks": "anytime", "pairing": "paired"}))
    assert content["looks"] == [3, 4, 5, 6, 7, 8] and content["rule"]["anytime"]
    assert by_arm(content)["b"]["verdict"] == "better" and by_arm(content)["b"]["claim"]


def test_results_of_another_sweep_carry_no_claim(tmp_path: Path) -> None:
    folder = played(tmp_path)
    trials = pd.read_parquet(folder / "trials.parquet")
    trials.loc[0, "reason"] = "reused from earlier/a-d0-s1"
    trials.to_parquet(folder / "trials.parquet")
    row = read(folder)["comparisons"][0]
    assert not row["claim"] and "1 of its trials are those of another sweep" in row["note"]


def test_a_metric_in_percent_is_in_its_own_units(tmp_path: Path) -> None:
    objective = {"metric": "accuracy", "mode": "max", "unit": "percent"}
    content = read(played(tmp_path, lambda arm, seed: 100 * value(arm, seed), objective=objective))
    row = by_arm(content)["b"]
    assert row["verdict"] == "better" and 10 < row["low"] < row["diff"] < row["high"] < 60


def test_diverged_seeds_are_named_and_take_a_claim_that_does_not_hold_at_the_worst(tmp_path: Path) -> None:
    def of(arm: str, seed: int) -> float:
        return math.nan if arm == "b" and seed in (2, 4, 6) else value(arm, seed)

    row = by_arm(
        read(played(tmp_path, of, objective={"metric": "accuracy", "mode": "max", "unit": "share"}))
    )["b"]
    assert row["seeds"] == [1, 3, 5, 7, 8] and row["note"] == "3 of 8 seeds diverged or failed"
    assert row["diff"] > 0.25 and row["verdict"] == "not settled" and row["low"] < 0 < row["high"]


def test_of_all_pairs_a_note_on_lost_seeds_is_told_from_each_side(tmp_path: Path) -> None:
    def of(arm: str, seed: int) -> float:
        return math.nan if (arm, seed) == ("b", 2) else value("c", seed + ord(arm))

    rows = by_arm(read(played(tmp_path, of, evidence={"question": "best"})))
    told = "seeds diverged or failed"
    assert rows["b"]["note"].endswith(told) and rows["b"]["n"] == len(rows["b"]["seeds"]) == 7
    of_b = [row for row in rows.values() if row["against"] == "b"]
    assert of_b and all("seeds of the other arm diverged or failed" in row["note"] for row in of_b)


SHARE = {"metric": "accuracy", "mode": "max", "unit": "share"}


def far_apart(arm: str, seed: int) -> float:
    """Seeds of which every second one solves nothing."""
    return 0.5 + (0.4 if seed % 2 else -0.4) + 0.01 * (ord(arm) - ord("a"))


def test_an_interval_of_every_possible_difference_is_none(tmp_path: Path) -> None:
    rows = by_arm(read(played(tmp_path, far_apart, seeds=[1, 2], objective=SHARE)))
    assert {(row["low"], row["high"]) for row in rows.values()} == {(None, None)}
    assert {row["verdict"] for row in rows.values()} == {"not settled"} and rows["b"]["p"] > 0.9


def test_a_journal_that_has_such_an_interval_is_read_without_it(tmp_path: Path) -> None:
    folder = played(tmp_path, seeds=[1, 2, 3], objective=SHARE)
    journal = folder / "journal.jsonl"
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    [look] = [event for event in events if event["event"] == "look"]
    look["comparisons"][0] |= {"low": -1.0, "high": 1.0}
    journal.write_text("".join(json.dumps(event) + "\n" for event in events))
    rows = by_arm(read(folder))
    assert rows["b"]["low"] is None and rows["b"]["high"] is None and rows["d"]["low"] is not None


def test_a_folder_without_results_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = asked_again(played(tmp_path, ablate=FOUR), margin=-1)
    for given, words in ((tmp_path / "nope", "is no folder"), (folder, "evidence.margin")):
        assert main(["verdicts", str(given)]) == 2
        out = capsys.readouterr()
        assert out.out == "" and out.err.startswith("error: ") and words in out.err
