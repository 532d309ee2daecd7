"""`--extend`: what adds to a sweep is taken, anything else is named; and only what is missing runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.decide.controller import Controller
from sweeps.plan.extension import refusals
from sweeps.plan.identity import resolved
from sweeps.plan.model import Plan
from sweeps.record.journal import Journal, read_journal
from sweeps.record.tables import trials_frame
from tests.sweeps.decide.test_controller import play, statuses
from tests.sweeps.spaces import ASHA, TUNE, set_costs, toy_plan

SEARCH: dict[str, Any] = {"draws_per_arm": 4, "seeds": [0], "keep": 1}
FOUR: dict[str, Any] = {"seeds": [1, 2, 3, 4]}
MANY: dict[str, Any] = {
    "ablate": {"bonus": {"levels": {f"l{i}": {"model.bonus": 0.1 * i} for i in range(7)}}},
    "seeds": [1, 2, 3, 4, 5],
}
ALIKE = {"model.bonus": [0, 1e-5, 2e-5]}  # no difference that a few seeds could show
TUNED: dict[str, Any] = {"tune": TUNE, "search": SEARCH, "scheduler": ASHA | {"scope": "arm"}}


def plans(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> tuple[Plan, Plan]:
    return toy_plan(folder, **old), toy_plan(folder, **{**old, **new})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {"seeds": [1, 2, 3]}),
        ({}, {"ablate": {"model.kind": ["a", "b", "c", "d"]}}),
        ({"scheduler": {"kind": "fifo", "max_t": 100}}, {"scheduler": {"kind": "fifo", "max_t": 200}}),
        (TUNED, {"search": SEARCH | {"draws_per_arm": 6}}),
        (TUNED, {"seeds": [5, 1, 2]}),
        (TUNED, {"ablate": {"model.kind": ["a", "d", "b", "c"]}}),
        ({}, {"seeds": [1, 2, 3, 4, 5]}),  # from no looks to three
        ({"evidence": {"looks": [2]}}, {"seeds": [1, 2, 3], "evidence": {"looks": [2, 3]}}),
        ({"evidence": {"baseline_seeds": [3, 4]}}, {"seeds": [1, 2, 3], "evidence": {"baseline_seeds": [4]}}),
        (MANY, {"seeds": [1, 2, 3, 4, 5, 6, 7, 8]}),  # seeds that only the baseline had are those of all
        (TUNED, {"scheduler": ASHA | {"scope": "arm", "max_t": 300}}),
        ({"tune": TUNE, "search": SEARCH}, {"search": SEARCH | {"seeds": [0, 9]}}),
        (TUNED, {"resources": {"cpu": 2}, "max_failures": 3, "budget": {"trials": 3}}),
    ],
)
def test_additions_are_taken(tmp_path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    before, after = plans(tmp_path, old, new)
    assert refusals(after, before.identity) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({}, {"seeds": [2, 3]}, ["seeds: [1, 2] before, [2, 3] now"]),
        ({"scheduler": ASHA}, {"seeds": [1, 2, 3]}, ["seeds", "by their mean, which would change"]),
        (
            TUNED,
            {"search": SEARCH | {"seeds": [0, 9]}},
            ["search.seeds", "by their mean, which would change"],
        ),
        (TUNED, {"search": SEARCH | {"draws_per_arm": 3}}, ["search.draws_per_arm: 4 before, 3 now"]),
        (TUNED, {"search": SEARCH | {"keep": 2}}, ["search.keep"]),
        (TUNED, {"tune": {"lr": {"loguniform": [0.02, 1.0]}}}, ["tune.lr"]),
        ({}, {"ablate": {"model.kind": ["a", "b"]}}, ["arms.c"]),
        (TUNED, {"ablate": {"model.kind": ["d", "a", "b", "c"]}}, ["baseline: 'a' before, 'd' now"]),
        ({}, {"evidence": {"question": "best"}}, ["evidence.question: 'baseline' before, 'best' now"]),
        (FOUR, {"evidence": {"looks": [2, 4]}}, ["evidence.looks: [3, 4] before, [2, 4] now", "number of"]),
        (FOUR, {"evidence": {"looks": "none"}}, ["evidence.looks: [3, 4] before, [] now"]),
        (
            {"evidence": {"baseline_seeds": [3, 4]}},
            {"evidence": {"baseline_seeds": [3]}},
            ["evidence.baseline_seeds: [3, 4] before, [3] now (seeds can only be added)"],
        ),
        ({}, {"base": {"lr": 0.2, "max_samples": 100}}, ["base.lr: 0.1 before, 0.2 now"]),
        (TUNED, {"scheduler": ASHA | {"scope": "arm", "max_t": 90}}, ["scheduler.max_t", "longer"]),
        (TUNED, {"scheduler": ASHA | {"scope": "arm", "grace_period": 10}}, ["scheduler.grace_period"]),
    ],
)
def test_anything_else_is_named(
    tmp_path: Path, old: dict[str, Any], new: dict[str, Any], words: list[str]
) -> None:
    before, after = plans(tmp_path, old, new)
    refused = "\n".join(refusals(after, before.identity))
    assert all(word in refused for word in words), refused


def extend(plan: Plan, folder: Path) -> Controller:
    path = folder / "journal.jsonl"
    made = Controller(plan, Journal(path), list(read_journal(path)))
    made.begin()
    return made


def run(plan: Plan, folder: Path) -> Controller:
    made = Controller(plan, Journal(folder / "journal.jsonl"))
    made.begin()
    play(made)
    made.finish("completed")
    return made


def starts(folder: Path) -> list[str]:
    """Trials started since the last launch."""
    events = list(read_journal(folder / "journal.jsonl"))
    last = max(index for index, event in enumerate(events) if event["event"] == "launch")
    return [event["trial_id"] for event in events[last:] if event["event"] == "start"]


def test_new_seeds_and_levels_alone_are_run(tmp_path: Path) -> None:
    ablate = {"model.bonus": [0, 1e-5, 2e-5, 3e-5]}
    before, after = plans(tmp_path, {"ablate": ALIKE}, {"seeds": [1, 2, 3], "ablate": ablate})
    run(before, tmp_path)
    made = extend(after, tmp_path)
    play(made)
    assert made.finished and statuses(made.state) == {"completed": 12}
    names = [arm.name for arm in after.arms]
    new = {f"{name}-d0-s3" for name in names} | {f"{names[3]}-d0-s{seed}" for seed in (1, 2)}
    assert set(starts(tmp_path)) == new


def test_an_arm_that_is_decided_gets_no_new_seeds(tmp_path: Path) -> None:
    before, after = plans(tmp_path, {}, {"seeds": [1, 2, 3], "ablate": {"model.kind": ["a", "b", "c", "d"]}})
    assert {row.verdict for row in run(before, tmp_path).state.comparisons} == {"better"}
    made = extend(after, tmp_path)
    play(made)
    assert made.finished and sorted(starts(tmp_path)) == ["a-d0-s3", "d-d0-s1", "d-d0-s2", "d-d0-s3"]


def test_more_draws_choose_anew_and_earlier_evidence_carries_no_claim(tmp_path: Path) -> None:
    tune = {"lr": {"uniform": [0.1, 0.5]}}
    old = {**TUNED, "tune": tune, "scheduler": None, "search": SEARCH | {"draws_per_arm": 1}}
    before, after = plans(tmp_path, old, {"search": SEARCH | {"draws_per_arm": 8}})
    first = run(before, tmp_path).state.selected
    made = extend(after, tmp_path)
    play(made)
    assert made.finished
    chosen = made.state.selected
    assert {arm: len(draws) for arm, draws in chosen.items()} == {"a": 1, "b": 1, "c": 1}
    assert chosen != first  # the seed of the draws is fixed: a later one is nearer to lr 0.1
    frame = trials_frame(made.state, resolved(after))
    evidence = frame[frame.phase == "evidence"]
    assert {(row.arm, row.draw) for row in evidence.itertuples()} == {(a, d[0]) for a, d in chosen.items()}
    assert len(frame) == 3 * (8 + 2 + 2)  # and none is gone


def test_a_longer_horizon_goes_on_where_the_trials_had_ended(tmp_path: Path) -> None:
    before, after = plans(
        tmp_path, {"scheduler": {"kind": "fifo", "max_t": 100}}, {"scheduler": {"kind": "fifo", "max_t": 150}}
    )
    run(before, tmp_path)
    made = extend(after, tmp_path)
    assert statuses(made.state) == {"interrupted": 6}
    play(made)
    assert made.finished and statuses(made.state) == {"completed": 6}
    assert all(sorted(trial.reports) == list(range(1, 16)) for trial in made.state.trials.values())


def test_decisions_stand_after_an_extension(tmp_path: Path) -> None:
    before, after = plans(tmp_path, TUNED, {"scheduler": ASHA | {"scope": "arm", "max_t": 300}})
    stopped = {t.trial_id for t in run(before, tmp_path).state.trials.values() if t.status == "pruned"}
    made = extend(after, tmp_path)
    play(made)
    assert made.finished and stopped
    decisions = read_journal(tmp_path / "journal.jsonl", name="decision")
    decided = [(event["member"], event["rung"]) for event in decisions]
    assert len(decided) == len(set(decided))
    for trial_id in stopped:
        assert made.state.trials[trial_id].status == "pruned" and trial_id not in starts(tmp_path)


@pytest.mark.parametrize("lines", [0, 1, 2, 3])
def test_a_crash_while_it_is_extended_loses_nothing(tmp_path: Path, lines: int) -> None:
    """sweep.yaml is that of the larger plan already, and so many lines of the new launch are written."""
    before, after = plans(
        tmp_path,
        {"scheduler": {"kind": "fifo", "max_t": 100}},
        {"scheduler": {"kind": "fifo", "max_t": 150}, "seeds": [1, 2, 3]},
    )
    run(before, tmp_path)
    journal = tmp_path / "journal.jsonl"
    there = journal.read_text().splitlines(keepends=True)
    extend(after, tmp_path)
    begun = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(begun[: len(there) + lines]))
    made = extend(after, tmp_path)  # as --resume does
    play(made)
    assert made.finished and statuses(made.state) == {"completed": 9}
    assert all(sorted(trial.reports) == list(range(1, 16)) for trial in made.state.trials.values())
    assert [e["event"] for e in read_journal(journal)].count("extend") == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"scheduler": {"kind": "fifo", "max_t": 100}}, {"scheduler": {"kind": "fifo", "max_t": 150}}),
        ({"scheduler": ASHA | {"scope": "arm"}}, {"scheduler": ASHA | {"scope": "arm", "max_t": 150}}),
        ({}, {"search": {"algorithm": "tpe", "draws_per_arm": 12, "seeds": [0, 9]}}),
        ({}, {"search": {"algorithm": "tpe", "draws_per_arm": 15, "seeds": [0]}}),
    ],
)
def test_a_study_grows_with_its_sweep(tmp_path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    tpe = {"tune": TUNE, "search": {"algorithm": "tpe", "draws_per_arm": 12, "seeds": [0]}}
    before, after = plans(tmp_path, {**tpe, **old}, new)
    assert refusals(after, before.identity) == []
    run(before, tmp_path)
    made = extend(after, tmp_path)
    play(made)
    assert made.finished
    for search in made._searches.values():
        trials = search.study().get_trials()
        assert len(trials) == after.spec.search.draws_per_arm
        assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}


def test_more_seeds_alone_reopen_nothing_though_trials_end_short_of_max_t(tmp_path: Path) -> None:
    horizon = {"scheduler": {"kind": "fifo", "max_t": 105}}  # the toy's last report is at 100
    before, after = plans(tmp_path, {**horizon, "ablate": ALIKE}, {"seeds": [1, 2, 3]})
    run(before, tmp_path)
    assert statuses(extend(after, tmp_path).state) == {"completed": 6, "not_started": 3}


def test_a_longer_horizon_is_refused_where_a_tuned_value_makes_the_schedule_depend_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = plans(tmp_path, TUNED, {"scheduler": ASHA | {"scope": "arm", "max_t": 300}})
    monkeypatch.setattr(
        after.trainer.__class__, "describe", lambda self, config: {"extendable": config.lr == 0.1}
    )
    assert any("scheduler.max_t" in line for line in refusals(after, before.identity))


EQUAL = {"by": "max_samples"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"match": EQUAL | {"train_flops": 10_000}}, {"match": EQUAL | {"train_flops": 20_000}}),
        (
            {"match": EQUAL | {"train_flops": "baseline"}, "scheduler": {"kind": "fifo", "max_t": 100}},
            {"scheduler": {"kind": "fifo", "max_t": 200}},
        ),
    ],
)
def test_with_more_flops_every_arm_goes_on_to_its_own_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: dict[str, Any], new: dict[str, Any]
) -> None:
    """Also the arm whose samples had been as many as the baseline's are now."""
    set_costs(monkeypatch)
    before, after = plans(tmp_path, old, new)
    first = run(before, tmp_path)
    assert {trial.arm: trial.last["samples"] for trial in first.state.trials.values()} == {
        "a": 100, "b": 200, "c": 50,
    }  # fmt: skip
    assert refusals(after, before.identity) == []
    made = extend(after, tmp_path)
    assert statuses(made.state) == {"interrupted": 6}
    play(made)
    assert made.finished and statuses(made.state) == {"completed": 6}
    assert {trial.arm: trial.last["samples"] for trial in made.state.trials.values()} == {
        "a": 200, "b": 400, "c": 100,
    }  # fmt: skip
    assert len({str(stage["trained"]) for stage in made.state.stages}) == 2  # earlier looks carry no claim
