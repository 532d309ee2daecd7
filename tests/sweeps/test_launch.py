"""The real command on real Ray and a real MLflow store, with a trainer whose results are known."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sweeps.record.journal import read_journal
from tests.conftest import ROOT
from tests.sweeps.spaces import ASHA, write_space

LIMIT_S = 150


def run_sweep(folder: Path, *arguments: object, wait: bool = True, **variables: str) -> Any:
    command = [sys.executable, str(ROOT / "run_sweep.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=folder, env=environment, **pipes)
    if not wait:
        return process
    out, err = process.communicate(timeout=LIMIT_S)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One sweep with all that can happen to a trial: completed, pruned, diverged, failed, retried."""
    folder = tmp_path_factory.mktemp("swept")
    once = folder / "failed-once"
    levels = {
        "good": {"model.kind": "b", "warns": "slow here"},
        "bad": {"model.kind": "d"},
        "diverges": {"model.kind": "c", "nan_at": 2},
        "breaks": {"model.kind": "c", "fail_at": 4},
        "recovers": {"model.kind": "b", "fail_at": 3, "fail_once": str(once)},
        "dies": {"model.kind": "c", "kill_at": 3},
    }
    space = write_space(
        folder, ablate={"case": {"levels": levels}}, scheduler=ASHA, max_failures=1, seeds=[1]
    )
    # One at a time: the first to arrive at a rung passes, and which one that is would be chance. And on a
    # machine that is short of memory by Ray's measure, which ends the sweep where Ray acts on it.
    return folder, run_sweep(folder, space, "--max-concurrent", 1, RAY_memory_usage_threshold="0.001")


@pytest.fixture(scope="module")
def trials(swept: tuple[Path, Any]) -> pd.DataFrame:
    return pd.read_parquet(swept[0] / "results" / "toy" / "trials.parquet").set_index("arm")


def test_the_exit_status_says_that_some_trial_failed(swept: tuple[Path, Any]) -> None:
    assert swept[1].returncode == 1, swept[1].stderr
    assert "Traceback" not in swept[1].stdout + swept[1].stderr


def test_every_trial_has_its_outcome(trials: pd.DataFrame) -> None:
    found = {arm.removeprefix("case="): status for arm, status in trials.status.items()}
    assert found == {
        "good": "completed",
        "bad": "pruned",
        "diverges": "diverged",
        "breaks": "failed",
        "recovers": "completed",
        "dies": "failed",
    }
    reasons = {arm.removeprefix("case="): reason for arm, reason in trials.reason.items()}
    assert "accuracy" in reasons["bad"] and "cut-off" in reasons["bad"]
    assert reasons["diverges"] == "accuracy is nan at step 2"
    assert "the toy broke" in reasons["breaks"]


def test_the_tables_have_the_columns_that_others_rely_on(
    swept: tuple[Path, Any], trials: pd.DataFrame
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


def test_every_file_is_there(swept: tuple[Path, Any]) -> None:
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


def test_the_journal_tells_the_story(swept: tuple[Path, Any], trials: pd.DataFrame) -> None:
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


def test_mlflow_holds_one_run_a_trial_under_one_parent(swept: tuple[Path, Any], trials: pd.DataFrame) -> None:
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


def test_the_last_lines_say_where_to_look(swept: tuple[Path, Any]) -> None:
    assert "report.html" in swept[1].stdout
    assert "/#/experiments/" in swept[1].stdout and "compareRunsMode=CHART" in swept[1].stdout


def test_launching_it_again_shows_the_report_and_runs_nothing(swept: tuple[Path, Any]) -> None:
    before = (swept[0] / "results" / "toy" / "journal.jsonl").read_bytes()
    again = run_sweep(swept[0], "toy.yaml")
    assert again.returncode == 1 and "finished" in again.stdout
    assert (swept[0] / "results" / "toy" / "journal.jsonl").read_bytes() == before


def test_another_space_under_the_name_is_refused_key_by_key(swept: tuple[Path, Any]) -> None:
    before = (swept[0] / "results" / "toy" / "journal.jsonl").read_bytes()
    refused = run_sweep(swept[0], "toy.yaml", "--set", "lr=0.2")
    assert refused.returncode == 2
    assert "lr" in refused.stderr and "0.2" in refused.stderr and "Traceback" not in refused.stderr
    assert (swept[0] / "results" / "toy" / "journal.jsonl").read_bytes() == before


def test_a_finished_sweep_whose_tables_were_lost_gets_them_again(
    swept: tuple[Path, Any], tmp_path: Path
) -> None:
    """As when it was killed between its last event and the tables."""
    folder = Path(shutil.copytree(swept[0], tmp_path / "copy"))
    results = folder / "results" / "toy"
    for name in ("trials.parquet", "history.parquet", "summary.csv", "report.html"):
        (results / name).unlink()
    (folder / "mlflow.db").unlink()
    again = run_sweep(folder, "toy.yaml", "--resume")
    assert again.returncode == 1 and "finished" in again.stdout, again.stderr
    there, here = (pd.read_parquet(base / "results/toy/trials.parquet") for base in (swept[0], folder))
    pd.testing.assert_frame_equal(there.drop(columns="mlflow_run_id"), here.drop(columns="mlflow_run_id"))
    assert (results / "report.html").stat().st_size > 0

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    assert len(runs) == 7 and not [run for run in runs if run.info.status == "RUNNING"]


def test_a_sweep_goes_on_with_the_data_that_it_began_with_only(tmp_path: Path) -> None:
    rows = tmp_path / "rows.txt"
    rows.write_text("1")
    (tmp_path / "reads_rows.py").write_text(
        "from tests.sweeps.toy_trainer import ToyConfig, describe, train\n"
        f"def check(config): return open({str(rows)!r}).read()\n"
    )
    base = {"max_samples": 100, "seconds_a_step": 0.3}
    space = write_space(tmp_path, trainer="reads_rows:train", base=base, ablate={"model.kind": ["a", "b"]})
    process = run_sweep(tmp_path, space, wait=False)
    journal = tmp_path / "results" / "toy" / "journal.jsonl"
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and not (journal.exists() and '"report"' in journal.read_text()):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    rows.write_text("2")
    refused = run_sweep(tmp_path, space, "--resume")
    assert refused.returncode == 2 and "other data (hash 1 there, 2 here)" in refused.stderr
    rows.write_text("1")
    assert run_sweep(tmp_path, space, "--resume").returncode == 0


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_was_killed_goes_on_where_it_was(tmp_path: Path, kind: signal.Signals) -> None:
    base = {"lr": 0.1, "max_samples": 100, "seconds_a_step": 0.2}
    space = write_space(tmp_path, base=base, ablate={"model.kind": ["a", "b"]})
    process = run_sweep(tmp_path, space, wait=False)
    journal = tmp_path / "results" / "toy" / "journal.jsonl"
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if journal.exists() and journal.read_text().count('"report"') >= 6:
            break
        time.sleep(0.1)
    process.send_signal(kind)
    out, err = process.communicate(timeout=60)
    expected = -9 if kind == signal.SIGKILL else 128 + kind
    assert process.returncode == expected, err
    if kind != signal.SIGKILL:
        assert "--resume" in out
        left = pd.read_parquet(tmp_path / "results" / "toy" / "trials.parquet")
        assert set(left.status) <= {"completed", "interrupted", "not_started"} and "interrupted" in set(
            left.status
        )
    unfinished = run_sweep(tmp_path, space)
    assert unfinished.returncode == 2 and "--resume" in unfinished.stderr
    resumed = run_sweep(tmp_path, space, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    history = pd.read_parquet(tmp_path / "results" / "toy" / "history.parquet")
    assert history.groupby("trial_id").size().eq(10).all() and history.trial_id.nunique() == 4
    totals = history.groupby("trial_id").accuracy.sum()
    last = history[history.step == 10].set_index("trial_id").total
    assert (last - totals).abs().max() < 1e-12  # as though nothing had happened, checkpoints included
    _assert_one_run_a_trial(tmp_path)


def _assert_one_run_a_trial(folder: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    assert len(runs) == 5
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if run.data.tags["role"] == "trial":
            assert [m.step for m in client.get_metric_history(run.info.run_id, "accuracy")] == list(
                range(1, 11)
            )


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
    refused = run_sweep(tmp_path, space)
    assert refused.returncode == 2
    for word in [*words, "toy.yaml"]:
        assert word in refused.stderr
    assert "Traceback" not in refused.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"toy.yaml"}


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
    refused = run_sweep(tmp_path, write_space(tmp_path), *arguments)
    assert refused.returncode == 2
    for word in words:
        assert word in refused.stderr
    assert "Traceback" not in refused.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"toy.yaml"}


def test_a_dry_run_starts_and_writes_nothing_and_is_quick(tmp_path: Path) -> None:
    begin = time.monotonic()
    shown = run_sweep(tmp_path, write_space(tmp_path), "--dry-run")
    assert shown.returncode == 0 and time.monotonic() - begin < 15
    for word in ("a", "b", "c", "6"):
        assert word in shown.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"toy.yaml"}


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    process = run_sweep(tmp_path, write_space(tmp_path), "--dry-run", wait=False)
    process.stdout.close()  # as `| head` does
    assert process.wait(timeout=LIMIT_S) == 128 + signal.SIGPIPE
    assert process.stderr.read() == ""
    process.stderr.close()


def test_nothing_of_a_sweep_listens_beyond_the_loopback(tmp_path: Path) -> None:
    base = {"max_samples": 100, "seconds_a_step": 0.3}
    process = run_sweep(tmp_path, write_space(tmp_path, base=base), wait=False)
    journal = tmp_path / "results" / "toy" / "journal.jsonl"
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and not (journal.exists() and '"report"' in journal.read_text()):
        time.sleep(0.1)
    family = _descendants(process.pid)
    listening = _listening(family)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert listening, "Ray's processes were not found"
    assert set(listening) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    time.sleep(2)
    assert not [pid for pid in family if Path(f"/proc/{pid}/stat").exists() and not _is_zombie(pid)]


def _descendants(root: int) -> set[int]:
    import psutil

    return {child.pid for child in psutil.Process(root).children(recursive=True)}


def _listening(pids: set[int]) -> set[str]:
    import psutil

    found = set()
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.pid in pids:
            found.add(connection.laddr.ip)
    return found


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_the_journal_is_json_throughout(swept: tuple[Path, Any]) -> None:
    for line in (swept[0] / "results" / "toy" / "journal.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
