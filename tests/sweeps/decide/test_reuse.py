"""`--reuse`: the very trial, from another sweep under the same storage, is not run again."""

from __future__ import annotations

import inspect
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest

from sweeps.decide.controller import Controller
from sweeps.decide.reuse import ReusableTrial, ReusableTrials, code_version
from sweeps.plan.model import Plan, TrialPlan
from sweeps.record.folder import write_space
from sweeps.record.journal import Journal, read_journal
from sweeps.record.storage import Storage
from tests.sweeps.decide.test_controller import play, statuses
from tests.sweeps.spaces import ASHA, TUNE, toy_plan

CODE, DATA = "0.1+abc", "data-1"


def run(plan: Plan, storage: Path, reusable: ReusableTrials | None = None, code: str = CODE) -> Controller:
    folder = storage / plan.spec.name
    folder.mkdir(parents=True, exist_ok=True)
    write_space(plan, folder, DATA, extended=False)
    made = Controller(plan, Journal(folder / "journal.jsonl"), reusable=reusable)
    made.begin(code=code)
    play(made)
    made.finish("completed")
    return made


def reusable(plan: Plan, storage: Path, code: str = CODE, data: str = DATA) -> ReusableTrials:
    return ReusableTrials(Storage(str(storage)), plan.spec.name, plan.trainer, code, data)


def reused(made: Controller) -> set[str]:
    return {trial.reused_from for trial in made.state.trials.values() if trial.reused_from}


def test_the_same_trials_are_taken_over_report_by_report_and_marked(tmp_path: Path) -> None:
    first = run(toy_plan(tmp_path, name="first"), tmp_path)
    plan = toy_plan(tmp_path, name="second", seeds=[2, 3], ablate={"model.kind": ["b", "d"]})
    second = run(plan, tmp_path, reusable(plan, tmp_path))
    assert second.finished and statuses(second.state) == {"completed": 4}
    assert reused(second) == {"first/b-d0-s2"}
    mine, theirs = (made.state.trials["b-d0-s2"] for made in (second, first))
    assert mine.reports == theirs.reports
    assert mine.reason == "reused from first/b-d0-s2"
    assert second.usage.spent_so_far()["samples"] == 300  # of the other three


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"base": {"lr": 0.2, "max_samples": 100}}, "another config"),
        ({"seeds": [8, 9]}, "other seeds"),
    ],
)
def test_another_trial_is_not_taken_for_it(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    run(toy_plan(tmp_path, name="first"), tmp_path)
    plan = toy_plan(tmp_path, name="second", **changes)
    assert reused(run(plan, tmp_path, reusable(plan, tmp_path))) == set(), why


@pytest.mark.parametrize("change", [{"code": "0.1+other"}, {"data": "data-2"}])
def test_other_code_or_data_is_another_trial(tmp_path: Path, change: dict[str, str]) -> None:
    run(toy_plan(tmp_path, name="first"), tmp_path)
    plan = toy_plan(tmp_path, name="second")
    assert reused(run(plan, tmp_path, reusable(plan, tmp_path, **change))) == set()


def test_a_trial_that_was_stopped_is_no_substitute_and_a_whole_one_may_be_stopped(tmp_path: Path) -> None:
    kinds = {"model.kind": ["b", "a", "c"]}
    first = run(toy_plan(tmp_path, name="first", ablate=kinds, scheduler=ASHA), tmp_path)
    done = {f"first/{t.trial_id}" for t in first.state.trials.values() if t.status == "completed"}
    plan = toy_plan(tmp_path, name="second", ablate=kinds)
    second = run(plan, tmp_path, reusable(plan, tmp_path))
    assert reused(second) == done and 0 < len(done) < 6
    third_plan = toy_plan(tmp_path, name="third", ablate=kinds, scheduler=ASHA)
    third = run(third_plan, tmp_path, reusable(third_plan, tmp_path))
    assert {source.rpartition("/")[2] for source in reused(third)} >= {t.partition("/")[2] for t in done}
    assert statuses(third.state)["pruned"] > 0  # judged as if the reports had just come


def test_a_damaged_sweep_in_the_storage_is_passed_over(tmp_path: Path) -> None:
    run(toy_plan(tmp_path, name="first"), tmp_path)
    shutil.copytree(tmp_path / "first", tmp_path / "damaged")
    (tmp_path / "damaged" / "journal.jsonl").write_text("{\n{\n")
    (tmp_path / "unreadable").mkdir()
    (tmp_path / "unreadable" / "sweep.yaml").write_text("a: [\n")
    plan = toy_plan(tmp_path, name="second")
    assert len(reused(run(plan, tmp_path, reusable(plan, tmp_path)))) == 6


def test_a_taken_over_trial_is_not_taken_over_again(tmp_path: Path) -> None:
    run(toy_plan(tmp_path, name="first"), tmp_path)
    plan = toy_plan(tmp_path, name="second")
    run(plan, tmp_path, reusable(plan, tmp_path))
    third = toy_plan(tmp_path, name="third")
    found = reused(run(third, tmp_path, reusable(third, tmp_path)))
    assert {source.partition("/")[0] for source in found} == {"first"}


def test_search_and_evidence_go_on_from_what_was_taken_over(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"tune": TUNE, "search": {"draws_per_arm": 3, "seeds": [0]}}
    run(toy_plan(tmp_path, name="first", **changes), tmp_path)
    plan = toy_plan(tmp_path, name="second", **changes)
    second = run(plan, tmp_path, reusable(plan, tmp_path))
    assert second.finished and len(reused(second)) == 3 * (3 + 2)
    events = [e["event"] for e in read_journal(tmp_path / "second" / "journal.jsonl")]
    assert events.count("select") == 3


def test_the_code_version_follows_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "somebodys_trainer"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "train.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = code_version("somebodys_trainer.train:train")
    assert before == code_version("somebodys_trainer.train:train")
    (package / "train.py").write_text("x = 2\n")
    changed = code_version("somebodys_trainer.train:train")
    (package / "kernel.c").write_text("int x = 1;\n")
    with_c = code_version("somebodys_trainer.train:train")
    (package / "kernel.h").write_text("#define X 1\n")
    assert len({before, changed, with_c, code_version("somebodys_trainer.train:train")}) == 4


@pytest.mark.parametrize("cut", range(1, 13))
def test_a_crash_in_the_midst_of_it_costs_no_training(tmp_path: Path, cut: int) -> None:
    run(toy_plan(tmp_path, name="first", seeds=[1]), tmp_path)
    plan = toy_plan(tmp_path, name="second", seeds=[1])
    run(plan, tmp_path, reusable(plan, tmp_path))
    journal = tmp_path / "second" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    first = next(index for index, line in enumerate(lines) if '"event":"start"' in line)
    journal.write_text("".join(lines[: first + cut]))
    made = Controller(plan, Journal(journal), list(read_journal(journal)), reusable=reusable(plan, tmp_path))
    made.begin(code=CODE)
    assert made.next_trial() is None and made.finished
    assert len(reused(made)) == 3 and made.usage.spent_so_far()["trials"] == 0
    assert all(len(trial.reports) == 10 for trial in made.state.trials.values())


def test_what_is_taken_over_needs_no_budget(tmp_path: Path) -> None:
    run(toy_plan(tmp_path, name="first"), tmp_path)
    plan = toy_plan(tmp_path, name="second", seeds=[1, 2, 3], budget={"trials": 1})
    second = run(plan, tmp_path, reusable(plan, tmp_path))
    assert statuses(second.state) == {"completed": 7, "not_started": 2} and len(reused(second)) == 6


@pytest.mark.parametrize("name", ["namespaced.train", "alone"])
def test_the_code_version_of_a_trainer_in_no_regular_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / "namespaced" if "." in name else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / f"{name.rpartition('.')[2]}.py").write_text("x = 1\n")
    (folder / "beside.py").write_text("y = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = code_version(f"{name}:train")
    (folder / "beside.py").write_text("y = 2\n")
    assert code_version(f"{name}:train") != before


@pytest.mark.parametrize("place", ["bucket", "memory"])
def test_trials_of_a_sweep_that_is_only_at_the_url_are_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"bucket://{tmp_path}/there" if place == "bucket" else f"memory://{uuid.uuid4().hex}"
    run(toy_plan(tmp_path, name="first"), Storage(url).root)
    assert Storage(url).send("first") == ""
    shutil.rmtree(Storage(url).root)  # this machine never ran it
    plan = toy_plan(tmp_path, name="second")
    found = ReusableTrials(Storage(url), plan.spec.name, plan.trainer, CODE, DATA)
    assert len(reused(run(plan, Storage(url).root, found))) == 6
    assert not (Storage(url).root / "first").exists()  # nothing is written here


class Everything:
    """Has an equal trial for each; `depths` are the numbers of calls within which it was asked."""

    def __init__(self) -> None:
        self.depths: list[int] = []

    def find(self, trial: TrialPlan) -> ReusableTrial:
        frame, depth = inspect.currentframe(), 0
        while frame is not None:
            frame, depth = frame.f_back, depth + 1
        self.depths.append(depth)
        return ReusableTrial(f"first/{trial.trial_id}", {1: {"step": 1, "samples": 100, "accuracy": 0.5}})


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": list(range(1, 9)), "evidence": {"looks": "none"}},
        {"tune": TUNE, "search": {"algorithm": "tpe", "draws_per_arm": 15, "seeds": [0]}},
    ],
)
def test_many_trials_are_taken_over_a_few_at_a_time(
    tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the calls Ray's loop hears of signals; and a draw that is taken over asks for the next, which
    must not be a call inside the call."""
    monkeypatch.setattr("sweeps.decide.controller.MOST_REUSED", 10)
    everything = Everything()
    plan = toy_plan(tmp_path, **changes)
    made = Controller(plan, Journal(tmp_path / "journal.jsonl"), reusable=everything)  # type: ignore[arg-type]
    made.begin(code=CODE)
    while not made.finished:
        before = made.state.num_ended
        assert made.next_trial() is None
        assert before < made.state.num_ended <= before + 10
    assert len(reused(made)) == len(made.state.trials) > 20
    assert max(everything.depths) == min(everything.depths)
