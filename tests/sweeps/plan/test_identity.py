"""What a sweep leaves in sweep.yaml, and when another one is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.plan.build import load_plan
from sweeps.plan.identity import differences, resolved
from sweeps.plan.model import Plan
from sweeps.record.folder import inspect_folder, write_space
from sweeps.record.journal import Journal
from sweeps.space.encoding import digest
from sweeps.space.errors import SpecError
from tests.conftest import ROOT
from tests.sweeps.spaces import ASHA, TOY, TUNE, toy_plan

GRID = {
    "tune": {"lr": {"choice": [0.1, 0.2], "when": {"model.kind": ["a"]}}},
    "search": {"algorithm": "grid"},
}
TPE = {"tune": TUNE, "search": {"algorithm": "tpe", "draws_per_arm": 20, "keep": 2}}
SPACES: dict[str, dict[str, Any]] = {
    "plain": {},
    "without-a-base": {"base": None},
    "scheduled": {"scheduler": ASHA},
    "horizon": {"scheduler": {"kind": "fifo", "max_t": 50}},
    "median": {"scheduler": {"kind": "median", "grace_period": 20}},
    "fixed": {"scheduler": {"kind": "fixed", "grace_period": 20, "keep": 2}},
    "tuned": {"tune": TUNE, "scheduler": {"kind": "asha", "grace_period": 20}},
    "grid": GRID,
    "tpe": TPE,
    "one-at-a-time": {"design": "one_at_a_time", "ablate": {"model.kind": ["a", "b"], "lr": [0.1, 0.3]}},
    "named-levels": {"ablate": {"w": {"levels": {"x": {"lr": 1, "model.kind": "b"}, "y": {"lr": 2}}}}},
    "words": {"ablate": {"fail_once": ["off", "null", "2026-01-01", "1:30", "ü", None]}},
    "when": {"ablate": {"model.kind": ["a", "b"], "lr": {"values": [1, 2], "when": {"model.kind": "b"}}}},
    "resources": {"resources": {"cpu": 0.5, "gpu": 2}, "max_concurrent": 3, "max_failures": 0},
    "silence": {"max_silence_s": 60},
}
# PyYAML writes YAML 1.1, in which these are words; read as YAML 1.2 they are numbers.
NUMBERS = {
    "level-called-1e-4": {"ablate": {"w": {"levels": {"1e-4": {"lr": 1e-4}, "1e-3": {"lr": 1e-3}}}}},
    "word-that-looks-octal": {"base": {"fail_once": "08"}},
}


def launched(folder: Path, *overrides: str, **changes: Any) -> tuple[Plan, Path]:
    """A plan, and the sweep.yaml that its launch leaves."""
    path = folder / "toy.yaml"  # JSON is YAML, of every version
    path.write_text(
        json.dumps({key: value for key, value in {**TOY, **changes}.items() if value is not None})
    )
    plan = load_plan(path, overrides)
    (folder / "results").mkdir()
    write_space(plan, folder / "results", "", extended=False)
    return plan, folder / "results" / "sweep.yaml"


@pytest.mark.parametrize(
    "changes",
    [
        *(pytest.param(changes, id=name) for name, changes in SPACES.items()),
        *(pytest.param(changes, id=name) for name, changes in NUMBERS.items()),
    ],
)
def test_what_a_sweep_leaves_can_be_launched_again(tmp_path: Path, changes: dict[str, Any]) -> None:
    plan, left = launched(tmp_path, **changes)
    again = load_plan(left)
    assert again.hash == plan.hash and differences(plan.identity, again.identity) == []
    assert [arm.name for arm in again.arms] == [arm.name for arm in plan.arms]
    assert again.first_trials() == plan.first_trials()
    assert again.spec.resources == plan.spec.resources
    assert resolved(again) == resolved(plan)


def test_what_was_set_on_the_command_line_is_left_in_the_base(tmp_path: Path) -> None:
    plan, left = launched(tmp_path, "lr=0.3")
    assert load_plan(left).hash == plan.hash != toy_plan(tmp_path).hash


def test_a_space_of_the_project_can_be_launched_again_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = load_plan(ROOT / "search_spaces" / "smoke.yaml", ["data.size=6", "data.num_train=100"])
    write_space(plan, tmp_path, "", extended=False)
    monkeypatch.chdir(tmp_path)
    assert load_plan(Path("sweep.yaml")).hash == plan.hash


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"resources": {"cpu": 2, "gpu": 1}},
        {"max_concurrent": 1},
        {"max_failures": 5},
        {"max_silence_s": 60},
        {"scheduler": {"kind": "fifo"}},
        {"base": {"lr": 0.1, "max_samples": 100, "model": {"kind": "a"}}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_how_a_sweep_runs_does_not_make_it_another(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert toy_plan(tmp_path, **changes).hash == toy_plan(tmp_path).hash


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"ablate": {"model.kind": ["a", "b"]}}, ["arms.c: {'model.kind': 'c'} before, not set now"]),
        ({"seeds": [1, 3]}, ["seeds: [1, 2] before, [1, 3] now"]),
        ({"base": {"lr": 0.2, "max_samples": 100}}, ["base.lr: 0.1 before, 0.2 now"]),
        ({"objective": {"metric": "total", "mode": "max"}}, ["metric: 'accuracy' before, 'total' now"]),
        ({"scheduler": ASHA}, ["scheduler.kind: 'fifo' before, 'asha' now"]),
        ({"tune": TUNE}, ["tune.lr.loguniform: not set before, [0.01, 1.0] now"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_a_sweep_shows_makes_it_another_and_is_told(
    tmp_path: Path, changes: dict[str, Any], lines: list[str]
) -> None:
    there, here = toy_plan(tmp_path), toy_plan(tmp_path, **changes)
    assert there.hash != here.hash
    told = "\n".join(differences(there.identity, here.identity))
    assert all(line in told for line in lines)


def test_more_draws_are_told_as_their_number_and_not_as_their_values(tmp_path: Path) -> None:
    plans = [toy_plan(tmp_path, tune=TUNE, search={"draws_per_arm": number}) for number in (4, 8)]
    assert differences(plans[0].identity, plans[1].identity) == ["search.draws_per_arm: 4 before, 8 now"]


def test_another_trainer_and_other_data_make_another_sweep(tmp_path: Path) -> None:
    twin = tmp_path / "twin.py"
    twin.write_text("from tests.sweeps.toy_trainer import describe, train")
    smoke = ROOT / "search_spaces" / "smoke.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        other = toy_plan(tmp_path, trainer="twin:train")
    assert differences(toy_plan(tmp_path).identity, other.identity) == [
        "trainer: 'tests.sweeps.toy_trainer:train' before, 'twin:train' now"
    ]
    seeded, plain = load_plan(smoke, ["data.seed=1"]), load_plan(smoke)
    assert seeded.hash != plain.hash
    assert differences(plain.identity, seeded.identity) == ["base.data.seed: 0 before, 1 now"]


SEEDS = {"seeds": [1, 2, 3, 4, 5]}


@pytest.mark.parametrize(
    ("evidence", "line"),
    [
        ({"question": "best"}, "evidence.question: 'baseline' before, 'best' now"),
        ({"test": "permutation"}, "evidence.test: 't' before, 'permutation' now"),
        ({"pairing": "paired"}, "evidence.pairing: 'unpaired' before, 'paired' now"),
        ({"looks": [3, 5]}, "evidence.looks: [3, 4, 5] before, [3, 5] now"),
        ({"looks": "none"}, "evidence.looks: [3, 4, 5] before, [] now"),
        ({"margin": 0.1}, "evidence.margin: None before, 0.1 now"),
        ({"futility": 0.1}, "evidence.futility: None before, 0.1 now"),
        ({"reserve": 0.02}, "evidence.reserve: 0.01 before, 0.02 now"),
        ({"baseline_seeds": [6, 7]}, "evidence.baseline_seeds: [] before, [6, 7] now"),
    ],
    ids=str,
)
@pytest.mark.parametrize("finished", [False, True])
def test_another_rule_is_another_sweep(
    tmp_path: Path, evidence: dict[str, Any], line: str, finished: bool
) -> None:
    """Also under --resume, and where it is finished: a rule is not chosen once values are known."""
    there, here = toy_plan(tmp_path, **SEEDS), toy_plan(tmp_path, **SEEDS, evidence=evidence)
    write_space(there, tmp_path, "", extended=False)
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("launch", hash=there.hash, max_t=None)
    if finished:
        journal.append("finish", status="completed")
    for resume in (False, True):
        with pytest.raises(SpecError, match="holds another sweep") as refused:
            inspect_folder(here, tmp_path, resume=resume, extend=False)
        assert line in str(refused.value)


def test_a_pilot_and_what_auto_comes_to_make_no_other_sweep(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, **SEEDS)
    same = {"pilot": "results/earlier", "looks": [3, 4, 5], "pairing": "unpaired", "baseline_seeds": []}
    assert toy_plan(tmp_path, **SEEDS, evidence=same).hash == plan.hash
    assert plan.identity["baseline"] == "a" and plan.identity["objective"]["unit"] == "none"


def test_another_baseline_is_another_sweep(tmp_path: Path) -> None:
    there, here = toy_plan(tmp_path), toy_plan(tmp_path, ablate={"model.kind": ["b", "a", "c"]})
    assert differences(there.identity, here.identity) == ["baseline: 'a' before, 'b' now"]


def test_seeds_that_redraw_the_data_are_another_sweep(tmp_path: Path) -> None:
    found = differences(toy_plan(tmp_path).identity, toy_plan(tmp_path, seed_keys=["fail_at"]).identity)
    assert set(found) == {
        "seed_keys: not set before, ['fail_at'] now",
        "evidence.pairing: 'unpaired' before, 'paired' now",
    }


Leaves = st.none() | st.integers() | st.text(max_size=3)
Trees = st.dictionaries(
    st.text("xyz", min_size=1), Leaves | st.dictionaries(st.text("xyz", min_size=1), Leaves)
)


@given(Trees, Trees)
def test_equal_contents_alone_have_no_differences_and_one_digest(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert differences(one, one) == []
    assert bool(differences(one, other)) == (one != other) == (digest(one) != digest(other))
    assert digest(one) == digest(dict(reversed(one.items())))


@given(Trees, st.integers())
def test_each_difference_is_a_line_that_names_its_key(tree: dict[str, Any], value: int) -> None:
    changed = tree | {"it": {"here": value}}
    assert differences(tree, changed) == [f"it.here: not set before, {value} now"]
    assert differences(changed, tree) == [f"it.here: {value} before, not set now"]


def test_an_infinite_setting_has_a_hash_or_is_refused(tmp_path: Path) -> None:
    try:
        plan = toy_plan(tmp_path, base={"lr": float("inf")})
    except SpecError:
        return
    assert plan.hash


def test_equal_choices_make_the_same_sweep_or_are_told(tmp_path: Path) -> None:
    grid = {"algorithm": "grid"}
    there = toy_plan(tmp_path, tune={"lr": {"choice": [1, 2]}}, search=grid)
    here = toy_plan(tmp_path, tune={"lr": {"choice": [1.0, 2.0]}}, search=grid)
    assert (here.hash == there.hash) != bool(differences(there.identity, here.identity))
