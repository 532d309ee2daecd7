"""The mirror in a real MLflow store: one run a trial, whatever happens and however often it is written."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from sweeps.decide.controller import Controller
from sweeps.observe.mlflow_runs import absolute_uri, runs_link
from sweeps.observe.mlflow_writer import MlflowWriter, attach_report, sync
from sweeps.plan.identity import resolved
from sweeps.record.folder import sweep_id
from sweeps.record.journal import Journal, read_journal
from sweeps.space.errors import SpecError
from tests.sweeps.decide.test_controller import play
from tests.sweeps.spaces import ASHA, toy_plan

LEVELS = {"good": {"model.kind": "b"}, "bad": {"model.kind": "d"}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests here: making its tables takes seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    MlflowClient(tracking_uri=uri).search_experiments()
    return uri


def swept(folder: Path, name: str, budget: int = 10_000) -> Path:
    """A sweep's folder as the journal and sweep.yaml make it, its trials played by hand."""
    plan = toy_plan(folder, name=name, ablate={"case": {"levels": LEVELS}}, scheduler=ASHA)
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


def test_sync_writes_all_and_again_writes_nothing_more(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "twice")
    sync(results, store)
    first = {run.info.run_id: points(store, run) for run in runs(store, "twice")}
    assert len(first) == 1 + 4 and sum(first.values()) > 0
    sync(results, store)
    assert {run.info.run_id: points(store, run) for run in runs(store, "twice")} == first


def test_a_run_begins_when_its_trial_does_and_says_why_it_was_stopped(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "times")
    sync(results, store)
    events = list(read_journal(results / "journal.jsonl"))
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


def test_the_link_selects_this_sweeps_trials_and_orders_them(store: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    results, other = swept(tmp_path, "linked"), swept(tmp_path / "other", "linked")
    space = space_of(other)
    space["resolved"]["id"] = "later"
    (other / "sweep.yaml").write_text(yaml.safe_dump(space))
    for folder in (results, other):
        sync(folder, store)
    query = parse_qs(urlsplit(runs_link(store, "1", space_of(results))).fragment.partition("?")[2])
    client = MlflowClient(tracking_uri=store)
    direction = "ASC" if query["orderByAsc"] == ["true"] else "DESC"
    found = client.search_runs(
        [client.get_experiment_by_name("linked").experiment_id],
        query["searchFilter"][0],
        order_by=[f"{query['orderByKey'][0]} {direction}"],
    )
    assert len(found) == 4 and {run.data.tags["sweep_id"] for run in found} == {sweep_id(space_of(results))}
    values = [run.data.metrics["accuracy"] for run in found]
    assert values == sorted(values, reverse=True) and values[0] > values[-1]


def test_the_link_of_a_server_is_on_the_server() -> None:
    space = {"objective": {"metric": "loss", "mode": "min"}, "resolved": {"id": "000000000000@now"}}
    link = runs_link("http://127.0.0.1:8080/", "7", space)
    assert link.startswith("http://127.0.0.1:8080/#/experiments/7/runs?") and "orderByAsc=true" in link
    assert " " not in link and "`" not in link


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


def test_a_store_that_cannot_be_had_stops_nothing_and_is_told(tmp_path: Path) -> None:
    results = swept(tmp_path, "lost")
    (tmp_path / "file").write_text("")
    mirror = MlflowWriter(f"sqlite:///{tmp_path}/file/mlflow.db", space_of(results))
    for event in read_journal(results / "journal.jsonl"):
        mirror(event)
    mirror.start()
    assert mirror.close(3.0) != ""
    assert mirror.link == ""


def test_a_store_that_hangs_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = swept(tmp_path, "hangs")
    released = threading.Event()
    monkeypatch.setattr(MlflowWriter, "write", lambda self, events: released.wait(30))
    mirror = MlflowWriter("sqlite:///none.db", space_of(results))
    mirror.start()
    assert "did not answer within 0.2 s" in mirror.close(0.2)
    released.set()


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


def test_a_report_that_comes_anew_after_its_journal_was_lost_is_logged_once(
    store: str, tmp_path: Path
) -> None:
    results = swept(tmp_path, "lost")
    sync(results, store)
    before = {run.info.run_id: points(store, run) for run in runs(store, "lost")}
    journal = results / "journal.jsonl"
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    for event in events:  # the same steps, trained once more
        event["time"] += 100
    journal.write_text("".join(json.dumps(event) + "\n" for event in events))
    sync(results, store)
    assert {run.info.run_id: points(store, run) for run in runs(store, "lost")} == before


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


def test_the_parent_run_carries_the_report_and_the_trials_their_arm(store: str, tmp_path: Path) -> None:
    results = swept(tmp_path, "reported")
    sync(results, store)
    found = runs(store, "reported")
    parent = next(run for run in found if run.data.tags["role"] == "sweep")
    client = MlflowClient(tracking_uri=store)
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["sweep.yaml"]
    (results / "report").mkdir()
    for name in ("report.html", "report/ranking.png", "report/table.csv"):
        (results / name).write_text(name)
    attach_report(results, store)
    there = [file.path for file in client.list_artifacts(parent.info.run_id)]
    assert there == ["report", "report.html", "sweep.yaml"]
    figures = [file.path for file in client.list_artifacts(parent.info.run_id, "report")]
    assert figures == ["report/ranking.png", "report/table.csv"]
    after = client.get_run(parent.info.run_id)
    assert (after.info.status, after.info.end_time) == (parent.info.status, parent.info.end_time)
    trials = [run for run in found if run.data.tags["role"] == "trial"]
    for run in trials:
        assert run.data.params["arm"] == run.data.tags["arm"] in run.info.run_name
