"""The copy in a real MLflow store: one run a trial, whatever happens and however often it is written."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
import yaml
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.tracking import MlflowClient

from analysis.report.summary import write_summary
from sweeps.decide.controller import Controller
from sweeps.observe import mlflow_runs
from sweeps.observe.mlflow_runs import MlflowRuns, absolute_uri, safe_name
from sweeps.observe.mlflow_view import view_link, view_of
from sweeps.observe.mlflow_writer import sync, writing
from sweeps.plan.identity import resolved
from sweeps.record.folder import sweep_id
from sweeps.record.journal import Journal, read_journal
from sweeps.record.mlflow_file import MlflowFile
from sweeps.record.tables import rebuild
from sweeps.space.errors import SpecError
from tests.sweeps.decide.test_controller import play
from tests.sweeps.spaces import ASHA, TUNE, toy_plan

LEVELS = {"good": {"model.kind": "b"}, "bad": {"model.kind": "d"}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests here: making its tables takes seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    MlflowClient(tracking_uri=uri).search_experiments()
    return uri


def swept(folder: Path, name: str, budget: int = 10_000, **changes: Any) -> Path:
    """A sweep's folder as the journal and sweep.yaml make it, its trials played by hand."""
    changes = {"ablate": {"case": {"levels": LEVELS}}, "scheduler": ASHA} | changes
    plan = toy_plan(folder, name=name, **changes)
    results = folder / "results"
    journal = Journal(results / "journal.jsonl")
    space = resolved(plan)
    space["resolved"] |= {"version": "0", "created": name, "id": name}
    (results / "sweep.yaml").write_text(yaml.safe_dump(space))
    made = Controller(plan, journal)
    made.begin()
    play(made, budget=budget)
    made.finish("completed" if made.finished else "interrupted")
    journal.close()
    return results


def space_of(results: Path) -> dict[str, Any]:
    space: dict[str, Any] = yaml.safe_load((results / "sweep.yaml").read_text())
    return space


def runs(store: str, name: str) -> list[Run]:
    client = MlflowClient(tracking_uri=store)
    return list(client.search_runs([client.get_experiment_by_name(name).experiment_id]))


def points(store: str, run: Run) -> int:
    client = MlflowClient(tracking_uri=store)
    return sum(len(client.get_metric_history(run.info.run_id, name)) for name in run.data.metrics)


def all_points(store: str, name: str) -> list[object]:
    """All that the trials' runs have, without times."""
    client = MlflowClient(tracking_uri=store)
    return sorted(
        (
            run.info.run_name,
            run.info.status,
            sorted(run.data.params.items()),
            [
                (metric, point.step, point.value)
                for metric in sorted(run.data.metrics)
                for point in client.get_metric_history(run.info.run_id, metric)
            ],
        )
        for run in runs(store, name)
        if run.data.tags["role"] == "trial"
    )


def counted(
    monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], bool] = lambda number: False
) -> Counter[str]:
    """Counts the calls of MLflow's client by name. Those whose number `fails` raise."""
    calls: Counter[str] = Counter()

    def wrapped(name: str, method: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            calls[name] += 1
            if fails(sum(calls.values())):
                raise MlflowException("it broke for a moment")
            return method(*arguments, **named)

        return call

    for name in (
        *("create_run", "log_batch", "update_run", "set_terminated", "search_runs", "log_dict"),
        *("get_metric_history", "get_run", "get_experiment_by_name", "create_experiment"),
    ):
        monkeypatch.setattr(MlflowClient, name, wrapped(name, getattr(MlflowClient, name)))
    return calls


def refuse(monkeypatch: pytest.MonkeyPatch, is_refused: Callable[[Any], bool]) -> None:
    """The store takes no batch with such a param, and does not say which one it is."""
    log_batch = MlflowClient.log_batch

    def call(self: MlflowClient, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        if any(is_refused(param) for param in params):
            raise MlflowException("(DataError) a string literal cannot contain NUL", BAD_REQUEST)
        log_batch(self, run_id, metrics=metrics, params=params, tags=tags)

    monkeypatch.setattr(MlflowClient, "log_batch", call)


def test_sync_writes_all_and_again_writes_nothing_more(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "twice")
    sync(results, store)
    first = {run.info.run_id: points(store, run) for run in runs(store, "twice")}
    assert len(first) == 1 + 4 and sum(first.values()) > 0
    sync(results, store)
    assert {run.info.run_id: points(store, run) for run in runs(store, "twice")} == first


def test_a_rung_of_many_flops_has_a_tag_too(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "far")
    journal = results / "journal.jsonl"
    journal.write_text(re.sub(r'"rung": ?[\d.]+', '"rung": 2e17', journal.read_text()))
    sync(results, store)
    assert any("rung_2e17" in run.data.tags for run in runs(store, "far"))


def test_a_run_begins_when_its_trial_does_and_says_why_it_was_stopped(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "times")
    sync(results, store)
    events = list(read_journal(results / "journal.jsonl"))
    [parent] = [run for run in runs(store, "times") if run.data.tags["role"] == "sweep"]
    assert parent.info.start_time == int(events[0]["time"] * 1000)
    assert parent.info.end_time == int(events[-1]["time"] * 1000)
    begun = {e["trial_id"]: e["time"] for e in events if e["event"] == "start"}
    trials = [run for run in runs(store, "times") if run.data.tags["role"] == "trial"]
    assert {run.data.tags["trial_id"]: run.info.start_time for run in trials} == {
        trial_id: int(time * 1000) for trial_id, time in begun.items()
    }
    stopped = [run for run in trials if run.data.tags["status"] == "pruned"]
    assert stopped
    for run in stopped:
        assert "cut-off" in run.data.tags["reason"]
    assert any(
        "stop: value" in text for run in stopped for key, text in run.data.tags.items() if "rung" in key
    )


def linked(store: str, link: str, experiment_id: str) -> dict[str, Any]:
    """The view that MLflow's UI reads for this link."""
    key = parse_qs(urlsplit(link).fragment.partition("?")[2])["viewStateShareKey"][0]
    tags = MlflowClient(tracking_uri=store).get_experiment(experiment_id).tags
    view: dict[str, Any] = json.loads(tags[f"mlflow.sharedViewState.{key}"])
    return view


def test_the_link_selects_this_sweeps_trials_and_orders_them(store: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    results, other = swept(tmp_path, "linked"), swept(tmp_path / "other", "linked")
    space = space_of(other)
    space["resolved"]["id"] = "later"
    (other / "sweep.yaml").write_text(yaml.safe_dump(space))
    for folder in (results, other):
        sync(folder, store)
    file = MlflowFile.read(results)
    view = linked(store, file.link, file.experiment_id)
    assert file.link != MlflowFile.read(other).link and file.search_link == ""
    found = MlflowClient(tracking_uri=store).search_runs(
        [file.experiment_id],
        view["searchFilter"],
        order_by=[f"{view['orderByKey']} {'ASC' if view['orderByAsc'] else 'DESC'}"],
    )
    assert len(found) == 4 and {run.data.tags["sweep_id"] for run in found} == {sweep_id(space_of(results))}
    values = [run.data.metrics["accuracy"] for run in found]
    assert values == sorted(values, reverse=True) and values[0] > values[-1]


def test_the_link_of_a_server_is_on_the_server_and_without_its_password() -> None:
    link = view_link("http://me:hunter2@127.0.0.1:8080/", "7", "key")
    assert link.startswith("http://127.0.0.1:8080/#/experiments/7/runs?viewStateShareKey=key&")
    assert "workflowType=machine_learning" in link  # else MLflow may open its page of traces


def test_curves_of_the_objective_come_before_values_of_the_end() -> None:
    objective = {"metric": "val/exact_accuracy", "mode": "max"}
    space = {"objective": objective, "scheduler": {"metric": "train/loss"}, "resolved": {"id": "x"}}
    view = view_of(space)
    assert [section["name"] for section in view["compareRunSections"]] == ["val", "train"]
    assert view["orderByAsc"] is False and view["isAccordionReordered"] is True


def test_the_links_of_a_sweep_with_a_search_are_of_one_phase_each(store: str, tmp_path: Path) -> None:
    search = {"draws_per_arm": 2, "seeds": [0], "keep": 1}
    results = swept(tmp_path, "phases", scheduler=None, tune=TUNE, search=search)
    sync(results, store)
    file, client = MlflowFile.read(results), MlflowClient(tracking_uri=store)
    names = []
    for link in (file.link, file.search_link):
        selected = client.search_runs(
            [file.experiment_id], linked(store, link, file.experiment_id)["searchFilter"]
        )
        names.append(sorted(run.data.tags["trial_id"][-2:] for run in selected))
    assert names == [["s1", "s1", "s2", "s2"], ["s0"] * 4]


def test_a_name_that_mlflow_refuses_stays_recognisable() -> None:
    assert safe_name("optim.lr") == "optim.lr" and safe_name("val/accuracy") == "val/accuracy"
    assert safe_name("summary/model.kind=a,width=8/mean") == "summary/model.kind:a width:8/mean"
    assert safe_name("lr%") == "lr_"
    one, two = safe_name("k" * 300 + "a"), safe_name("k" * 300 + "b")
    assert len(one) == len(two) == 250 and one != two


def test_an_interrupted_sweeps_runs_are_closed_and_gone_on_with(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "resumed", budget=7)
    sync(results, store)
    before = {run.data.tags.get("trial_id"): run for run in runs(store, "resumed")}
    assert {run.info.status for run in before.values()} <= {"KILLED", "FINISHED"}
    plan = toy_plan(tmp_path, name="resumed", ablate={"case": {"levels": LEVELS}}, scheduler=ASHA)
    path = results / "journal.jsonl"
    made = Controller(plan, Journal(path), list(read_journal(path)))
    made.begin()
    play(made)
    made.finish("completed")
    sync(results, store)
    after = {run.data.tags.get("trial_id"): run for run in runs(store, "resumed")}
    assert len(after) == len(runs(store, "resumed")) == 1 + 4
    assert {run.info.status for run in after.values()} <= {"KILLED", "FINISHED"}
    for trial_id, run in before.items():
        assert after[trial_id].info.run_id == run.info.run_id
    assert after[None].info.status == "FINISHED"  # the parent


def test_sync_of_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no sweep here"):
        sync(tmp_path, "sqlite:///none.db")


def test_a_relative_store_means_the_same_wherever_it_is_named_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert absolute_uri("sqlite:////var/x.db") == "sqlite:////var/x.db"
    assert absolute_uri("http://127.0.0.1:5000") == "http://127.0.0.1:5000"


def test_a_journal_that_was_lost_in_part_and_trained_anew_adds_nothing(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "lost")
    sync(results, store)
    before = {run.info.run_id: points(store, run) for run in runs(store, "lost")}
    journal = results / "journal.jsonl"
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    for event in events:  # the same steps, trained once more
        event["time"] += 100
    journal.write_text("".join(json.dumps(event) + "\n" for event in events[: len(events) // 2]))
    sync(results, store)
    journal.write_text("".join(json.dumps(event) + "\n" for event in events))
    sync(results, store)
    assert {run.info.run_id: points(store, run) for run in runs(store, "lost")} == before


def test_what_the_store_has_is_not_sent_again(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = swept(tmp_path, "again")
    sync(results, store)
    calls = counted(monkeypatch)
    sync(results, store, whole=False)
    assert not {"create_run", "log_batch", "set_terminated", "get_metric_history"} & set(calls)


def test_what_was_sent_before_a_crash_and_not_noted_changes_nothing(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "crashed")
    sync(results, store)
    before = {run.info.run_id: points(store, run) for run in runs(store, "crashed")}
    ends = [place + 1 for place, byte in enumerate((results / "journal.jsonl").read_bytes()) if byte == 10]
    known = MlflowFile.read(results)
    for offset, noted in ((ends[len(ends) // 2], 2), (0, 0)):  # some runs are not in the file either
        MlflowFile(
            **{**asdict(known), "offset": offset, "runs": dict(list(known.runs.items())[:noted])}
        ).write(results)
        sync(results, store)
        assert {run.info.run_id: points(store, run) for run in runs(store, "crashed")} == before
        assert MlflowFile.read(results) == known


def test_another_store_gets_all(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "moved")
    MlflowFile("sqlite:////elsewhere.db", "1", "no run", 10**6, runs={"case=good-d0-s1": "no run"}).write(
        results
    )
    assert sync(results, store) == []
    assert len(runs(store, "moved")) == 1 + 4
    found = MlflowFile.read(results)
    assert found.store == store and found.offset == (results / "journal.jsonl").stat().st_size


def test_a_store_that_fails_one_call_in_ten_ends_with_all(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_runs, "FIRST_WAIT_S", 0.001)
    whole = swept(tmp_path, "whole")
    sync(whole, store)
    (tmp_path / "shaky").mkdir()
    results = swept(tmp_path / "shaky", "shaky")
    calls = counted(monkeypatch, fails=lambda number: number % 10 == 0)
    assert sync(results, store) == []
    assert sum(calls.values()) > 20
    monkeypatch.undo()
    assert all_points(store, "shaky") == all_points(store, "whole")


@pytest.mark.parametrize("answers_late", [False, True])
def test_a_run_that_was_made_without_an_answer_is_not_made_twice(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers_late: bool
) -> None:
    """A server may make the run after the client has given up, before or after the next try."""
    monkeypatch.setattr(mlflow_runs, "FIRST_WAIT_S", 0.001)
    name = f"unanswered-{answers_late}"
    results = swept(tmp_path, name)
    create_run, requests = MlflowClient.create_run, []

    def call(self: MlflowClient, *arguments: Any, **named: Any) -> Run:
        requests.append(named["tags"]["mlflow.runName"])
        if len(requests) % 2:
            if not answers_late:
                create_run(self, *arguments, **named)
            raise MlflowException("timed out")
        if answers_late:
            create_run(self, *arguments, **named)
        return create_run(self, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_run", call)
    assert sync(results, store) == []
    assert len(requests) >= 5
    found = runs(store, name)
    assert len(found) == 1 + 4
    assert "RUNNING" not in {run.info.status for run in found}


def test_a_store_that_comes_back_after_the_last_try_gets_all(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_runs, "FIRST_WAIT_S", 0.001)
    results = swept(tmp_path, "back")
    create_run, failures = MlflowClient.create_run, Counter[str]()

    def call(self: MlflowClient, *arguments: Any, **named: Any) -> Run:
        name = named["tags"]["mlflow.runName"]
        if failures[name] <= mlflow_runs.TRIES:
            failures[name] += 1
            raise MlflowException("it is down")
        return create_run(self, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_run", call)
    assert sync(results, store) == []
    assert len(runs(store, "back")) == len(failures) == 1 + 4


def test_one_value_that_is_refused_for_good_stops_nothing_else(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_runs, "FIRST_WAIT_S", 0.001)
    results = swept(tmp_path, "refused")
    path = results / "journal.jsonl"
    events = list(read_journal(path))
    for event in events:
        if event["event"] == "start":
            event["config"] |= {"lr%": 0.1, "k" * 300: 1, "odd": {"nul": "a\0b"}}
        if event["event"] == "report":
            event["acc%uracy"] = event["accuracy"]
    last = next(event for event in reversed(events) if event["event"] == "report")
    events.insert(events.index(last), {**last, "step": 2**63})
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    refuse(monkeypatch, lambda entry: "\0" in str(entry.value))  # as PostgreSQL does
    notes = sync(results, store)
    assert len(notes) == 2
    assert any("2**63" in text for text in notes) and any("param odd.nul" in text for text in notes)
    trials = [run for run in runs(store, "refused") if run.data.tags["role"] == "trial"]
    for run in trials:
        assert run.data.params["lr_"] == "0.1" and run.data.params["max_samples"] == "100"
        [long] = [name for name in run.data.params if name.startswith("kkk")]
        assert len(long) == 250
        assert run.data.metrics["acc_uracy"] == run.data.metrics["accuracy"]
        assert run.info.status != "RUNNING"
    assert {run.data.tags["status"] for run in trials} == {"completed", "pruned"}


def test_of_a_step_that_was_repeated_mlflow_shows_what_the_tables_keep(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "repeated")
    path = results / "journal.jsonl"
    events = list(read_journal(path))
    reports = [event for event in events if event["event"] == "report"]
    trial_id = reports[-1]["trial_id"]
    mine = [event for event in reports if event["trial_id"] == trial_id]
    end = next(place for place, e in enumerate(events) if e["event"] == "end" and e["trial_id"] == trial_id)
    repeated = [{**event, "time": event["time"] + 50} for event in mine[-3:]]  # since its last checkpoint
    repeated[-1]["accuracy"] = 0.123
    events[end:end] = repeated
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    sync(results, store)
    trials = pd.read_parquet(results / "trials.parquet").set_index("trial_id")
    assert trials.accuracy[trial_id] == 0.123
    client = MlflowClient(tracking_uri=store)
    run_id = trials.mlflow_run_id[trial_id]
    assert client.get_run(run_id).data.metrics["accuracy"] == 0.123
    history = client.get_metric_history(run_id, "accuracy")
    steps = [event["step"] for event in mine]
    assert [point.step for point in history] == [*steps, steps[-1]]  # the stale point stays
    assert len(client.get_metric_history(run_id, "samples")) == len(steps)  # equal ones were not sent
    before = all_points(store, "repeated")
    sync(results, store)
    assert all_points(store, "repeated") == before
    assert client.get_run(run_id).data.metrics["accuracy"] == 0.123


def test_sync_repairs_a_store_that_has_lost_a_run(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "damaged")
    sync(results, store)
    before = all_points(store, "damaged")
    lost = next(run for run in runs(store, "damaged") if run.data.tags["role"] == "trial")
    MlflowClient(tracking_uri=store).delete_run(lost.info.run_id)
    sync(results, store)
    assert all_points(store, "damaged") == before


@pytest.mark.parametrize("between", [True, False])
def test_a_trial_that_succeeds_at_last_has_no_reason_of_a_failure(
    store: str, tmp_path: Path, between: bool
) -> None:
    """Whether or not MLflow was written between the two attempts."""
    name = f"retried-{between}"
    results = swept(tmp_path, name, scheduler=None)
    path = results / "journal.jsonl"
    events = list(read_journal(path))
    end = next(place for place, event in enumerate(events) if event["event"] == "end")
    trial_id = events[end]["trial_id"]
    start = next(e for e in events if e["event"] == "start" and e["trial_id"] == trial_id)
    failed = [*events[:end], {**events[end], "status": "failed", "reason": "out of memory"}]
    for written in ([failed] if between else []) + [[*failed, {**start}, *events[end:]]]:
        path.write_text("".join(json.dumps(event) + "\n" for event in written))
        sync(results, store, whole=False)
    [run] = [run for run in runs(store, name) if run.data.tags.get("trial_id") == trial_id]
    assert run.data.tags["status"] == "completed" and run.info.status == "FINISHED"
    assert not run.data.tags.get("reason")


def test_sync_leaves_no_run_of_a_killed_launch_running(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "killed", budget=7)
    path = results / "journal.jsonl"
    kept = [event for event in read_journal(path) if event["event"] not in ("end", "finish")]
    path.write_text("".join(json.dumps(event) + "\n" for event in kept))
    sync(results, store)
    assert {run.info.status for run in runs(store, "killed")} == {"KILLED"}


def test_sync_is_refused_while_another_process_writes(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "held")
    with writing(results, timeout_s=0), pytest.raises(SpecError, match="is running"):
        sync(results, store)


def test_a_longer_horizon_is_told_beside_the_param_that_cannot_change(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "longer")
    sync(results, store)
    journal = results / "journal.jsonl"
    text = journal.read_text()
    journal.write_text(text + text.replace('"max_samples":100', '"max_samples":200'))  # all started once more
    sync(results, store)
    trials = [run for run in runs(store, "longer") if run.data.tags["role"] == "trial"]
    assert {run.data.params["max_samples"] for run in trials} == {"100"}
    assert {run.data.tags["now.max_samples"] for run in trials} == {"200"}


def test_the_parent_run_tells_the_ranking_and_a_trial_its_checkpoints(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "ranked")
    (results / "checkpoints").mkdir()
    rebuild(results)
    write_summary(results)
    sync(results, store)
    sync(results, store)
    client, found = MlflowClient(tracking_uri=store), runs(store, "ranked")
    parent = next(run for run in found if run.data.tags["role"] == "sweep")
    rows = pd.read_csv(results / "summary.csv").set_index("arm").dropna(subset="mean")
    assert len(rows)
    for arm, row in rows.iterrows():
        name = f"summary/{str(arm).replace('=', ':')}/mean"
        [point] = client.get_metric_history(parent.info.run_id, name)
        assert point.value == row["mean"]
        assert f"| {arm} | {row['mean']:.4g} |" in parent.data.tags["mlflow.note.content"]
    for run in found:
        if run is not parent:
            assert run.data.tags["checkpoints"] == f"{results}/checkpoints/{run.data.tags['trial_id']}"


def test_each_file_of_the_report_is_a_sign_of_life(store: str, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    for name in ("one.png", "two.png", "three.csv"):
        (tmp_path / "report" / name).write_text(name)
    signs: list[None] = []
    client = MlflowRuns(store, lambda: signs.append(None), pytest.fail, pytest.fail)
    experiment_id = client.open_experiment("signs")
    run_id = client.create(experiment_id, {"mlflow.runName": "signs", "sweep_id": "signs"})
    before = len(signs)
    client.attach(run_id, tmp_path)
    assert len(signs) - before == 3


def test_the_parent_run_carries_the_report_and_the_trials_their_arm(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "reported")
    sync(results, store)
    found = runs(store, "reported")
    parent = next(run for run in found if run.data.tags["role"] == "sweep")
    client = MlflowClient(tracking_uri=store)
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["sweep.yaml"]
    (results / "report").mkdir()
    for name in ("report.html", "verdicts.json", "report/ranking.png", "report/table.csv"):
        (results / name).write_text(name)
    sync(results, store)
    there = [file.path for file in client.list_artifacts(parent.info.run_id)]
    assert there == ["report", "report.html", "sweep.yaml", "verdicts.json"]
    figures = [file.path for file in client.list_artifacts(parent.info.run_id, "report")]
    assert figures == ["report/ranking.png", "report/table.csv"]
    after = client.get_run(parent.info.run_id)
    assert (after.info.status, after.info.end_time) == (parent.info.status, parent.info.end_time)
    trials = [run for run in found if run.data.tags["role"] == "trial"]
    for run in trials:
        assert run.data.params["arm"] == run.data.tags["arm"] in run.info.run_name
