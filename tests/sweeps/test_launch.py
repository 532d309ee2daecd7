"""The real command on real Ray and a real MLflow store, with a trainer whose results are known."""

from __future__ import annotations

import json
import platform
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sweeps.record.journal import read_journal
from tests.sweeps.launches import LIMIT_S, Done, run, run_here, start
from tests.sweeps.spaces import ASHA, write_space


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """One sweep with all that can happen to a trial: completed, pruned, diverged, failed, retried."""
    folder = tmp_path_factory.mktemp("swept")
    levels = {
        "good": {"model.kind": "b", "warns": "slow here"},
        "bad": {"model.kind": "d"},
        "diverges": {"model.kind": "c", "nan_at": 2},
        "breaks": {"model.kind": "c", "fail_at": 4},
        "recovers": {"model.kind": "b", "fail_at": 3, "fail_once": str(folder / "failed-once")},
        "dies": {"model.kind": "b", "kill_at": 3, "fail_once": str(folder / "died-once")},
    }
    space = write_space(
        folder, ablate={"case": {"levels": levels}}, scheduler=ASHA, max_failures=1, seeds=[1]
    )
    # One at a time: the first to arrive at a rung passes, and which one that is would be chance. And on a
    # machine that is short of memory by Ray's measure, which ends the sweep where Ray acts on it.
    return folder, run(folder, space, "--max-concurrent", 1, RAY_memory_usage_threshold="0.001")


@pytest.fixture(scope="module")
def trials(swept: tuple[Path, Done]) -> pd.DataFrame:
    return pd.read_parquet(swept[0] / "results" / "toy" / "trials.parquet").set_index("arm")


def test_the_exit_status_says_that_some_trial_failed(swept: tuple[Path, Done]) -> None:
    assert swept[1].returncode == 1, swept[1].stderr
    assert "Traceback" not in swept[1].stdout + swept[1].stderr


def test_the_drivers_log_does_not_warn_of_tunes_own_result_files(swept: tuple[Path, Done]) -> None:
    log = (swept[0] / "results" / "toy" / "logs" / "driver.log").read_text()
    assert log and "Failed to fetch metrics" not in log


def test_every_trial_has_its_outcome(trials: pd.DataFrame) -> None:
    found = {arm.removeprefix("case="): status for arm, status in trials.status.items()}
    assert found == {
        "good": "completed",
        "bad": "pruned",
        "diverges": "diverged",
        "breaks": "failed",
        "recovers": "completed",
        "dies": "completed",
    }
    reasons = {arm.removeprefix("case="): reason for arm, reason in trials.reason.items()}
    assert "accuracy" in reasons["bad"] and "cut-off" in reasons["bad"]
    assert reasons["diverges"] == "accuracy is nan at step 2"
    assert "the toy broke" in reasons["breaks"]


def test_a_worker_that_died_is_told_from_a_trainer_that_raised(swept: tuple[Path, Done]) -> None:
    journal = list(read_journal(swept[0] / "results" / "toy" / "journal.jsonl"))
    causes = {event["trial_id"]: event.get("cause", "") for event in journal if event["event"] == "retry"}
    assert causes == {"case=dies-d0-s1": "lost", "case=breaks-d0-s1": "", "case=recovers-d0-s1": ""}
    [node] = {event["node"] for event in journal if event["event"] == "start"}
    assert {event["host"] for event in journal if event["event"] == "start"} == {platform.node()}
    [died] = [event for event in journal if event.get("cause") == "lost"]
    assert died["node"] == node
    [again] = [
        e for e in journal if e["event"] == "start" and e["time"] > died["time"] and "dies" in e["trial_id"]
    ]
    assert again["time"] - died["time"] >= 5  # others went first


def test_the_tables_have_the_columns_that_others_rely_on(
    swept: tuple[Path, Done], trials: pd.DataFrame
) -> None:
    for column in (
        "trial_id", "draw", "phase", "seed", "status", "reason", "num_params", "flops_per_sample", "samples",
        "flops", "wall_s", "mlflow_run_id", "case", "accuracy", "best/accuracy", "best_step",
    ):  # fmt: skip
        assert column in trials.reset_index().columns
    assert trials.flops.isna().all()  # the toy does not say
    history = pd.read_parquet(swept[0] / "results" / "toy" / "history.parquet")
    assert not history.duplicated(["trial_id", "step"]).any()
    recovered = history[history.trial_id.str.contains("recovers")]
    assert list(recovered.step) == list(
        range(1, 11)
    )  # went on from its checkpoint: nothing lost, nothing twice
    assert recovered.total.iloc[-1] == pytest.approx(recovered.accuracy.sum())


def test_every_file_is_there(swept: tuple[Path, Done]) -> None:
    results = swept[0] / "results" / "toy"
    for name in (
        "sweep.yaml",
        "journal.jsonl",
        "trials.parquet",
        "history.parquet",
        "summary.csv",
        "report.html",
    ):
        assert (results / name).stat().st_size > 0
    assert "the toy broke" in next((results / "logs").glob("*breaks*")).read_text()
    kept = sorted(path.name for path in next((results / "checkpoints").glob("*good*")).iterdir())
    assert kept == ["step_000000010"]  # the last is the best


def test_the_journal_tells_the_story(swept: tuple[Path, Done], trials: pd.DataFrame) -> None:
    events = list(read_journal(swept[0] / "results" / "toy" / "journal.jsonl"))
    assert events[0]["event"] == "launch" and events[-1]["event"] == "finish"
    stops = [event for event in events if event["event"] == "decision" and event["action"] == "stop"]
    assert stops and all(float(event["value"]) < float(event["cutoff"]) for event in stops)
    ends = [event["trial_id"] for event in events if event["event"] == "end"]
    assert sorted(ends) == sorted(trials.trial_id)
    warnings = [(event["trial_id"], event["text"]) for event in events if event["event"] == "warning"]
    assert warnings == [("case=good-d0-s1", "slow here")]
    starts = [
        event["attempt"] for event in events if event["event"] == "start" and "recovers" in event["trial_id"]
    ]
    assert starts == [1, 2]
    retries = [(event["trial_id"], event["reason"]) for event in events if event["event"] == "retry"]
    assert {trial_id for trial_id, _ in retries} == {
        f"case={n}-d0-s1" for n in ("breaks", "recovers", "dies")
    }
    assert all("the toy broke" in reason for trial_id, reason in retries if "dies" not in trial_id)


def test_mlflow_holds_one_run_a_trial_under_one_parent(
    swept: tuple[Path, Done], trials: pd.DataFrame
) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{swept[0]}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    parents = [run for run in runs if run.data.tags["role"] == "sweep"]
    children = {run.data.tags["trial_id"]: run for run in runs if run.data.tags["role"] == "trial"}
    assert len(parents) == 1 and len(children) == len(runs) - 1 == len(trials)
    assert {run.info.status for run in runs} <= {"FINISHED", "FAILED", "KILLED"}
    for row in trials.itertuples():
        run = children[row.trial_id]
        assert run.info.run_id == row.mlflow_run_id
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert run.data.tags["status"] == row.status
        assert run.data.tags["seed"] == "1"
        assert run.data.params["max_samples"] == "100"
    good = next(run for trial_id, run in children.items() if "good" in trial_id)
    history = client.get_metric_history(good.info.run_id, "accuracy")
    assert [point.step for point in history] == list(range(1, 11))
    assert good.info.run_name == "case=good seed 1"


def test_the_last_lines_say_where_to_look(swept: tuple[Path, Done]) -> None:
    assert "report.html" in swept[1].stdout
    assert "/#/experiments/" in swept[1].stdout and "compareRunsMode=CHART" in swept[1].stdout


def test_launching_it_again_shows_the_report_and_runs_nothing(swept: tuple[Path, Done]) -> None:
    before = (swept[0] / "results" / "toy" / "journal.jsonl").read_bytes()
    again = run_here(swept[0], "toy.yaml")
    assert again.returncode == 1 and "finished" in again.stdout
    assert "/#/experiments/" in again.stdout
    assert (swept[0] / "results" / "toy" / "journal.jsonl").read_bytes() == before


def test_another_space_under_the_name_is_refused_key_by_key(swept: tuple[Path, Done]) -> None:
    before = (swept[0] / "results" / "toy" / "journal.jsonl").read_bytes()
    refused = run(swept[0], "toy.yaml", "--set", "lr=0.2")
    assert refused.returncode == 2
    assert "lr" in refused.stderr and "0.2" in refused.stderr and "Traceback" not in refused.stderr
    assert (swept[0] / "results" / "toy" / "journal.jsonl").read_bytes() == before


def test_a_finished_sweep_whose_tables_were_lost_gets_them_again(
    swept: tuple[Path, Done], tmp_path: Path
) -> None:
    """As when it was killed between its last event and the tables."""
    folder = Path(shutil.copytree(swept[0], tmp_path / "copy"))
    results = folder / "results" / "toy"
    for name in ("trials.parquet", "history.parquet", "summary.csv", "report.html"):
        (results / name).unlink()
    (folder / "mlflow.db").unlink()
    again = run_here(folder, "toy.yaml", "--resume")
    assert again.returncode == 1 and "finished" in again.stdout, again.stderr
    there, here = (pd.read_parquet(base / "results/toy/trials.parquet") for base in (swept[0], folder))
    pd.testing.assert_frame_equal(there.drop(columns="mlflow_run_id"), here.drop(columns="mlflow_run_id"))
    assert (results / "report.html").stat().st_size > 0

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    assert len(runs) == 7 and not [run for run in runs if run.info.status == "RUNNING"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resources": {"cpu": 1, "gpu": 64}}, ["resources.gpu", "64"]),
        ({"trainer": "tests.sweeps.toy_trainer:trian"}, ["trian"]),
        ({"base": "missing.yaml"}, ["missing.yaml"]),
        ({"sheduler": {"kind": "asha"}}, ["sheduler", "scheduler"]),
        ({"ablate": {"model.kind": ["a", "z"]}}, ["model.kind", "z"]),
        ({"ablate": {"status": {"levels": {"x": {"lr": 1}, "y": {"lr": 2}}}}}, ["ablate.status", "column"]),
    ],
)
def test_bad_input_is_refused_in_one_message_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    space = write_space(tmp_path, **changes)
    refused = run_here(tmp_path, space)
    assert refused.returncode == 2
    for word in [*words, "toy.yaml"]:
        assert word in refused.stderr
    assert "Traceback" not in refused.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"toy.yaml"}


def test_a_trial_whose_values_contradict_the_unit_fails_and_its_worker_stops(tmp_path: Path) -> None:
    objective = {"metric": "accuracy", "mode": "max", "unit": "share"}
    levels = {"percent": {"model.bonus": 99}, "share": {"model.bonus": 0}}
    space = write_space(tmp_path, objective=objective, ablate={"case": {"levels": levels}}, seeds=[1])
    assert run_here(tmp_path, space).returncode == 1
    trials = pd.read_parquet(tmp_path / "results" / "toy" / "trials.parquet").set_index("case")
    assert dict(trials.status) == {"percent": "failed", "share": "completed"}
    assert trials.reason["percent"] == (
        "accuracy is 9.941, but objective.unit is share (0 to 1): set unit: percent"
    )
    events = list(read_journal(tmp_path / "results" / "toy" / "journal.jsonl"))
    assert sum(event["event"] == "start" for event in events) == 2  # none is tried again


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tracking-uri", "foo://bar"], ["foo://bar", "no such store", "sqlite"]),
        (["--tracking-uri", "mlruns"], ["mlruns", "plain folders", "sqlite"]),
        (["--address", "127.0.0.1:1"], ["--address 127.0.0.1:1", "ray start --head"]),
    ],
)
def test_arguments_that_cannot_work_are_refused_before_anything_is_written(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    refused = run_here(tmp_path, write_space(tmp_path), *arguments)
    assert refused.returncode == 2
    for word in words:
        assert word in refused.stderr
    assert "Traceback" not in refused.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"toy.yaml"}


def test_a_dry_run_starts_and_writes_nothing_and_is_quick(tmp_path: Path) -> None:
    begin = time.monotonic()
    shown = run(tmp_path, write_space(tmp_path), "--dry-run")
    assert shown.returncode == 0 and time.monotonic() - begin < 15
    for word in ("a", "b", "c", "6"):
        assert word in shown.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"toy.yaml"}


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    process = start(tmp_path, write_space(tmp_path), "--dry-run")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()  # as `| head` does
    assert process.wait(timeout=LIMIT_S) == 128 + signal.SIGPIPE
    assert process.stderr.read() == ""
    process.stderr.close()


def test_the_journal_is_json_throughout(swept: tuple[Path, Done]) -> None:
    for line in (swept[0] / "results" / "toy" / "journal.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
