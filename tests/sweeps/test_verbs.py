"""The verbs that read and act on recorded sweeps, from another process than the launch's."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from rich.console import Console

import sweeps
from analysis.compare.claims import claims_of
from analysis.sweep import load_sweep
from sweeps import launch, report, verbs
from sweeps.__main__ import guarded, main
from sweeps.observe import mlflow_writer
from sweeps.observe.summary import sync_hint
from sweeps.options import LaunchOptions
from sweeps.plan.build import load_plan
from sweeps.plan.model import Plan
from sweeps.process import is_locked, locked
from sweeps.record import alive as alive_file
from sweeps.record import stop_request
from sweeps.record.folder import FolderStatus, inspect_folder
from sweeps.record.journal import Journal, read_journal
from sweeps.record.mlflow_file import MlflowFile
from sweeps.record.state import read_state
from sweeps.record.storage import Storage
from sweeps.record.tables import rebuild
from sweeps.space.errors import SpecError
from sweeps.status_text import list_text
from sweeps.sweep_status import SweepReader
from sweeps.watch import watch
from tests.sweeps.launches import ENVIRONMENT
from tests.sweeps.spaces import ASHA, TUNE
from tests.sweeps.sweep_folders import FAILS, Played, height
from trm import __version__

SEARCH = {"draws_per_arm": 2, "seeds": [0], "keep": 1}
Printed = pytest.CaptureFixture[str]


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "results"


def status_of(storage: Path, capsys: Printed, name: str = "toy") -> dict[str, Any]:
    capsys.readouterr()
    assert main(["status", name, "--storage", str(storage), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: Printed, *arguments: str) -> str:
    """The one message with which a verb is refused."""
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error and "\n" not in error and "Traceback" not in error
    return error


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """As though a launch worked on the sweep."""
    with locked(folder):
        yield


@contextmanager
def running_elsewhere(folder: Path, now: float | None = None) -> Iterator[None]:
    """The same, on another machine, where `folder` is at a URL. `now`: when it last said so."""
    alive = folder / alive_file.FILE
    alive.write_text(json.dumps({"time": time.time() if now is None else now, "where": "other:/results"}))
    yield
    alive.unlink()


def tree(folder: Path) -> dict[str, float]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


# status


def test_status_of_a_finished_sweep(storage: Path, capsys: Printed) -> None:
    Played(storage).run().finish()
    status = status_of(storage, capsys)
    assert (status["name"], status["state"], status["eta_s"]) == ("toy", "finished", None)
    assert status["trials"] == {"completed": 6} and status["ended"] == status["planned"] == 6
    assert status["best"] == {"arm": "b", "value": pytest.approx(0.9015)}  # the mean of seeds 1 and 2
    assert status["best_phase"] == "evidence" and status["elapsed_s"] >= 0


def test_status_of_a_running_sweep_and_of_one_whose_process_was_killed(
    storage: Path, capsys: Printed
) -> None:
    played = Played(storage).run(2)
    trial_id = played.start()
    with running(played.end()):
        assert is_locked(played.folder)
        status = status_of(storage, capsys)
        assert status["state"] == "running" and status["eta_s"] is not None
        assert status["trials"] == {"completed": 2, "running": 1, "not_started": 3}
    status = status_of(storage, capsys)
    assert status["state"] == "interrupted" and status["eta_s"] is None
    assert status["trials"] == {"completed": 2, "interrupted": 1, "not_started": 3}, trial_id


@pytest.mark.parametrize("ending", ["budget", "interrupted"])
def test_status_says_how_a_sweep_ended(storage: Path, capsys: Printed, ending: str) -> None:
    Played(storage).run(1).finish(ending)
    assert status_of(storage, capsys)["state"] == ending


def test_status_before_the_first_report_has_no_best(storage: Path, capsys: Printed) -> None:
    Played(storage).end()
    assert status_of(storage, capsys)["best"] is None


def test_status_names_the_first_failures(storage: Path, capsys: Printed) -> None:
    Played(storage).run(of=lambda arm, seed: FAILS if arm == "c" else height(arm, seed)).finish()
    assert status_of(storage, capsys)["failures"][0] == {"trial_id": "c-d0-s1", "reason": "the toy broke"}
    assert main(["status", "toy", "--storage", str(storage)]) == 0
    assert "c-d0-s1: the toy broke" in capsys.readouterr().out


def test_the_reading_verbs_write_nothing(storage: Path, capsys: Printed) -> None:
    Played(storage).run(3).finish()
    before = tree(storage)
    for verb in ("status", "watch"):
        assert main([verb, "toy", "--storage", str(storage)]) == 0
    assert main(["list", "--storage", str(storage)]) == 0
    with pytest.raises(SpecError):
        verbs.best("toy", str(storage))
    assert tree(storage) == before


@pytest.mark.parametrize("verb", ["status", "watch", "stop", "retry", "report", "sync", "best"])
def test_an_unknown_sweep_is_one_message(storage: Path, capsys: Printed, verb: str) -> None:
    Played(storage, name="mixers").finish()
    assert "did you mean mixers?" in refused(capsys, verb, "mixer", "--storage", str(storage))
    assert "it has mixers" in refused(capsys, verb, "..", "--storage", str(storage))
    gone = str(storage / "gone")
    assert "there is no such folder" in refused(capsys, verb, "mixers", "--storage", gone)


def test_a_folder_that_is_no_storage_is_one_message(tmp_path: Path, capsys: Printed) -> None:
    (tmp_path / "file").touch()
    for location in (tmp_path / "file", tmp_path / "missing"):
        assert str(location) in refused(capsys, "list", "--storage", str(location))


def test_no_verb_prints_a_password(tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.sweep_status.statuses", lambda location: [])
    url = "sftp://me:S3cret@host/sweeps"
    assert main(["list", "--storage", url]) == 0
    assert capsys.readouterr().out == "sftp://me:***@host/sweeps has no sweeps.\n"

    def no_space_left() -> int:
        raise OSError(errno.ENOSPC, "No space left", url)

    assert guarded(no_space_left, "sweeps") == 2
    assert capsys.readouterr().err == "sweeps: sftp://me:***@host/sweeps: No space left\n"


def test_the_name_that_was_typed_stands_in_errors(
    storage: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.mkdir()
    for typed, program in (("/x/sweeps/__main__.py", "python -m sweeps"), ("/bin/trm-sweeps", "trm-sweeps")):
        monkeypatch.setattr(sys, "argv", [typed])
        assert refused(capsys, "status", "x", "--storage", str(storage)).startswith(f"{program} status: ")


@pytest.mark.parametrize(
    "damage", ["sweep.yaml is missing", "no yaml", "no mode", "a scheduler in words", "a line", "a key"]
)
def test_a_damaged_sweep_is_one_message(storage: Path, capsys: Printed, damage: str) -> None:
    folder = Played(storage).run(1).finish()
    if damage == "sweep.yaml is missing":
        (folder / "sweep.yaml").unlink()
    elif damage == "no yaml":
        (folder / "sweep.yaml").write_text("{")
    elif damage in ("no mode", "a scheduler in words"):
        space = yaml.safe_load((folder / "sweep.yaml").read_text())
        if damage == "no mode":
            del space["objective"]["mode"]
        else:
            space["scheduler"] = "asha"
        (folder / "sweep.yaml").write_text(yaml.safe_dump(space))
    else:
        line = "broken\n" if damage == "a line" else '{"event": "end", "time": 1}\n'
        (folder / "journal.jsonl").write_text(line + (folder / "journal.jsonl").read_text())
    assert str(folder) in refused(capsys, "status", "toy", "--storage", str(storage))
    assert main(["list", "--storage", str(storage)]) == 0
    assert "damaged" in capsys.readouterr().out


def test_a_journal_of_a_later_format_is_refused(storage: Path, capsys: Printed) -> None:
    folder = Played(storage).run().finish()
    journal = Journal(folder / "journal.jsonl")
    journal.append("launch", format=2, version="7.0.0", hash="")
    journal.append("unheard_of", version="7.0.0")
    journal.close()
    for verb in ("status", "retry", "report"):
        error = refused(capsys, verb, "toy", "--storage", str(storage))
        assert f"newer version (7.0.0; this is {__version__})" in error


def test_an_unfinished_line_is_read_when_it_is_whole(storage: Path) -> None:
    played = Played(storage).run(1)
    reader = SweepReader(Storage(str(storage)), "toy")
    assert reader.status().progress.trials["completed"] == 1
    path = played.folder / "journal.jsonl"
    whole = path.read_bytes()
    played.run(1).end()
    added = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + added[:-20])
    assert reader.status().progress.trials["completed"] == 1
    path.write_bytes(whole + added)
    assert reader.status().progress.trials["completed"] == 2


# list


def test_list_has_a_line_a_sweep(storage: Path, capsys: Printed) -> None:
    Played(storage, name="one").run().finish()
    Played(storage, name="two").run(1).finish()
    (storage / "notes").mkdir()
    (storage / "notes" / "text.txt").touch()
    assert main(["list", "--storage", str(storage)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].split()[:5] == ["one", "finished", "6/6", "b", "0.9015"]
    assert lines[2].split()[:3] == ["two", "interrupted", "1/6"]
    assert main(["list", "--storage", str(storage), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found] == ["one", "two"] and found[0]["best"]["arm"] == "b"


def test_a_damaged_sweep_has_the_keys_of_the_others(storage: Path, capsys: Printed) -> None:
    Played(storage, name="one").run().finish()
    (Played(storage, name="two").finish() / "sweep.yaml").write_text("{")
    assert main(["list", "--storage", str(storage), "--json"]) == 0
    one, two = json.loads(capsys.readouterr().out)
    assert list(two) == [*one, "error"]
    known = {key: value for key, value in two.items() if value is not None}
    assert known == {"name": "two", "state": "damaged", "error": two["error"]}
    assert "is damaged" in two["error"]


def test_an_empty_storage_lists_nothing(storage: Path, capsys: Printed) -> None:
    storage.mkdir()
    assert main(["list", "--storage", str(storage), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_folder_of_a_sweep_is_no_storage(storage: Path, capsys: Printed) -> None:
    folder = Played(storage).run(1).finish()
    said = refused(capsys, "list", "--storage", str(folder))
    assert "the folder of one sweep" in said and said.endswith(f"that holds it, {storage}")
    assert said[said.index("--storage") :] in refused(
        capsys, "run", str(storage / "toy.yaml"), "--storage", str(folder)
    )


def test_without_a_verb_all_are_listed(capsys: Printed) -> None:
    assert main([]) == 2
    said = capsys.readouterr().err
    assert all(f"    {verb} " in said for verb in ("run", "list", "watch", "best"))


@pytest.mark.parametrize("width", [60, 80, 200])
def test_long_names_fit_the_terminal(storage: Path, width: int) -> None:
    name = "very-long-" * 20
    Played(
        storage, name=name[:60], ablate={"case": {"levels": {"x" * 100: {"lr": 0.2}, "y": {"lr": 0.3}}}}
    ).finish()
    status = SweepReader(Storage(str(storage)), name[:60]).status()
    console = Console(file=io.StringIO(), width=width)
    console.print(list_text([("a" * 190, SpecError("broken " * 50)), (name[:60], status)], width))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 3 and all(len(line) <= width for line in lines)
    assert "interrupted" in lines[2] and "…" in lines[2]


def test_status_and_list_are_quick(storage: Path, cpu_second: float) -> None:
    first = Played(storage, name="s0").run().finish()
    for number in range(1, 100):
        (storage / f"s{number}").mkdir()
        for file in ("sweep.yaml", "journal.jsonl"):
            (storage / f"s{number}" / file).write_bytes((first / file).read_bytes())
    for arguments in (["status", "s0"], ["list"]):
        before = os.times().children_user
        command = [sys.executable, "-m", "sweeps", *arguments, "--storage", str(storage)]
        subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True)
        assert os.times().children_user - before < 1.5 * cpu_second


# watch


def test_watch_follows_the_journal_and_ends_with_the_sweep(storage: Path) -> None:
    played = Played(storage).run(1)
    reader = SweepReader(Storage(str(storage)), "toy")
    sizes: list[int] = []
    original = reader._files.read

    def read(name: str, offset: int = 0) -> bytes:
        content = original(name, offset)
        sizes.append(len(content))
        return content

    object.__setattr__(reader._files, "read", read)
    console, turns = Console(file=io.StringIO(), width=100), []
    with running(played.folder):

        def wait(seconds: float) -> None:
            turns.append(seconds)
            played.run(1)
            if len(turns) == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            watch(reader, console, wait)
    size = (played.finish() / "journal.jsonl").stat().st_size
    status = watch(reader, console, wait)
    assert status.state == "interrupted" and status.progress.trials["completed"] == 4
    assert sum(sizes) == size  # each byte once
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0].startswith("toy: 1 completed, 5 not started") and "4 completed" in lines[-1]
    assert all("\x1b" not in line for line in lines)


def test_watch_of_a_sweep_that_does_not_run_says_how_it_ended(storage: Path, capsys: Printed) -> None:
    Played(storage).run().finish()
    assert main(["watch", "toy", "--storage", str(storage)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "toy: finished"


def test_watch_shows_the_metric_that_the_launch_shows(storage: Path) -> None:
    """The scheduler's, while the objective is 0 everywhere."""
    played = Played(storage, scheduler=ASHA | {"metric": "total", "mode": "max"})
    played.controller.report(played.start(), {"step": 1, "samples": 1.0, "accuracy": 0.0, "total": 0.25})
    played.end()
    console = Console(file=io.StringIO(), width=100)
    watch(SweepReader(Storage(str(storage)), "toy"), console)
    assert "best total 0.25" in console.file.getvalue()  # type: ignore[attr-defined]


# stop


def test_stop_asks_the_launch_and_waits_for_its_end(storage: Path, capsys: Printed) -> None:
    played = Played(storage).run(2)
    begun = threading.Event()

    def launch() -> None:
        with running(played.folder):
            request = stop_request.StopRequest(played.folder)
            begun.set()
            while not request.received():
                time.sleep(0.05)
            played.finish()

    thread = threading.Thread(target=launch)
    thread.start()
    assert begun.wait(10)
    assert main(["stop", "toy", "--storage", str(storage)]) == 0
    thread.join()
    out = capsys.readouterr().out
    assert "toy has stopped (interrupted); 2 of 6 trials have ended." in out and "--resume" in out
    assert not (played.folder / stop_request.FILE).exists()


def test_stop_says_when_a_launch_has_not_ended_in_time(storage: Path, capsys: Printed) -> None:
    played = Played(storage).run(1)
    with running(played.end()):
        assert main(["stop", "toy", "--storage", str(storage), "--timeout", "0.3"]) == 1
    assert "It has not ended yet" in capsys.readouterr().out
    assert (played.folder / stop_request.FILE).exists()
    assert not stop_request.StopRequest(played.folder).received()  # the next launch does not take it
    assert not (played.folder / stop_request.FILE).exists()


def test_a_launch_hears_of_stop_from_the_moment_at_which_it_holds_the_sweep(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while it checks its data, or waits for a cluster."""
    folder = Played(storage).run(1).finish()
    original = launch.inspect_folder

    def ask_once_held(plan: Plan, found: Path, resume: bool, extend: bool) -> FolderStatus:
        if is_locked(folder):
            stop_request.ask(folder)
        return original(plan, found, resume, extend)

    def begin(*arguments: Any) -> None:
        raise InterruptedError

    monkeypatch.setattr(launch, "inspect_folder", ask_once_held)
    monkeypatch.setattr("sweeps.running.Controller", begin)
    with pytest.raises(InterruptedError):
        launch.launch(LaunchOptions(storage / "toy.yaml", resume=True, storage=str(storage)))
    assert (folder / stop_request.FILE).exists()


@pytest.mark.parametrize("timeout", ["-1", "nan", "-inf"])
def test_a_time_that_cannot_be_waited_stops_nothing(storage: Path, capsys: Printed, timeout: str) -> None:
    played = Played(storage).run(1)
    with running(played.end()):
        said = refused(capsys, "stop", "toy", "--storage", str(storage), f"--timeout={timeout}")
    assert "0 or more" in said and not (played.folder / stop_request.FILE).exists()


def test_what_does_not_run_cannot_be_stopped(storage: Path, capsys: Printed) -> None:
    Played(storage).run(1).finish()
    assert "does not run" in refused(capsys, "stop", "toy", "--storage", str(storage))


# retry


def breaks(arm: str, seed: int) -> float | str:
    return {"b": FAILS, "c": math.nan}.get(arm, height(arm, seed)) if seed == 1 else height(arm, seed)


def test_retry_plans_failed_trials_again_and_leaves_diverged_ones(storage: Path, capsys: Printed) -> None:
    folder = Played(storage).run(of=breaks).finish()
    assert main(["retry", "toy", "--storage", str(storage)]) == 0
    out = capsys.readouterr().out
    assert "1 failed trial planned again. 1 diverged" in out
    assert f"run {folder / 'sweep.yaml'} --resume --storage {storage}" in out
    assert status_of(storage, capsys)["state"] == "interrupted"
    plan = load_plan(folder / "sweep.yaml")
    assert not inspect_folder(plan, folder, resume=True, extend=False).finished
    with pytest.raises(SpecError, match="continue with --resume"):
        inspect_folder(plan, folder, resume=False, extend=False)
    again = Played(storage)
    assert again.run().finish() == folder
    state = read_state(folder / "journal.jsonl")
    assert {trial.trial_id: trial.status for trial in state.trials.values() if trial.seed == 1} == {
        "a-d0-s1": "completed",
        "b-d0-s1": "completed",
        "c-d0-s1": "diverged",
    }
    assert inspect_folder(plan, folder, resume=False, extend=False).finished


def test_a_trial_that_is_tried_again_has_all_its_retries_and_costs_no_time(storage: Path) -> None:
    folder = Played(storage, max_failures=1).run(of=breaks).finish()
    before = read_state(folder / "journal.jsonl")
    assert before.trials["b-d0-s1"].status == "failed"
    assert verbs.retry("toy", str(storage), "sweeps") == 0
    trial = read_state(folder / "journal.jsonl").trials["b-d0-s1"]
    assert (trial.status, trial.failures) == ("interrupted", 0)


def test_retry_with_nothing_failed_says_so(storage: Path, capsys: Printed) -> None:
    folder = Played(storage).run().finish()
    before = (folder / "journal.jsonl").read_bytes()
    assert main(["retry", "toy", "--storage", str(storage)]) == 0
    assert "no trial has failed" in capsys.readouterr().out
    assert (folder / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize("verb", ["retry", "sync"])
def test_a_running_sweep_is_left_alone(storage: Path, capsys: Printed, verb: str) -> None:
    played = Played(storage).run(1)
    with running(played.end()):
        assert "toy is running" in refused(capsys, verb, "toy", "--storage", str(storage))


def test_a_look_that_counted_a_failure_carries_no_claim_once_it_was_run_again(storage: Path) -> None:
    folder = Played(storage, seeds=[1, 2, 3], evidence={"looks": [3]}).run(of=breaks).finish()
    assert claims_of(load_sweep(folder)).carried
    verbs.retry("toy", str(storage), "sweeps")
    Played(storage, seeds=[1, 2, 3], evidence={"looks": [3]}).run().finish()
    claims = claims_of(load_sweep(folder))
    assert not claims.carried and "b-d0-s1" in claims.note
    assert "had failed at a look, and were run again" in claims.note


def test_an_arm_that_was_left_without_a_draw_gets_its_evidence(storage: Path) -> None:
    def of(arm: str, seed: int) -> float | str:
        return FAILS if arm == "b" else height(arm, seed)

    folder = Played(storage, tune=TUNE, search=SEARCH).run(of=of).finish()
    assert read_state(folder / "journal.jsonl").selected["b"] == []
    verbs.retry("toy", str(storage), "sweeps")
    Played(storage, tune=TUNE, search=SEARCH).run().finish()
    state = read_state(folder / "journal.jsonl")
    assert len(state.selected["b"]) == 1
    assert sum(t.arm == "b" and t.phase == "evidence" for t in state.trials.values()) == 2


# report


def test_a_report_in_mid_sweep_has_what_has_ended(storage: Path, capsys: Printed) -> None:
    played = Played(storage).run(4)
    trial_id = played.start()

    def status() -> str:
        return dict(pd.read_parquet(played.folder / "trials.parquet")[["trial_id", "status"]].values)[
            trial_id
        ]

    with running(played.end()):
        assert main(["report", "toy", "--storage", str(storage)]) == 0
        assert sweeps.load("toy", storage).trials.set_index("trial_id").status[trial_id] == "running"
    assert status() == "interrupted"  # in the file, which outlives the launch
    page = Path(capsys.readouterr().out.strip().splitlines()[-1])
    assert page == played.folder / "report.html" and page.stat().st_size > 0
    assert (pd.read_parquet(played.folder / "trials.parquet").status == "completed").sum() == 4
    made = {path.name for path in played.folder.iterdir()}
    assert {"summary.csv", "verdicts.json", "report"} <= made
    assert not [name for name in made if name.startswith(".") and name != ".lock"]
    assert main(["report", "toy", "--storage", str(storage)]) == 0
    assert status() == "interrupted"  # the launch is gone, and has recorded no end


def test_a_report_does_not_take_the_place_of_the_launchs_newer_tables(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launch ends while the report is made."""
    played = Played(storage).run(4)
    original = report.write

    def slow(folder: Path) -> Path:
        page = original(folder)
        if folder != played.folder:
            played.run().finish()
            let_go.set()
        return page

    let_go, held = threading.Event(), threading.Event()

    def launch() -> None:
        with running(played.folder):
            held.set()
            let_go.wait(60)

    thread = threading.Thread(target=launch)
    thread.start()
    assert held.wait(10)
    monkeypatch.setattr(report, "write", slow)
    assert verbs.report("toy", str(storage)) == 0
    thread.join()
    assert (pd.read_parquet(played.folder / "trials.parquet").status == "completed").sum() == 6


def test_a_report_waits_aloud_for_a_launch_that_has_not_begun(storage: Path, capsys: Printed) -> None:
    """It holds the folder, but the journal's last event is still the end of the launch before."""
    played = Played(storage).run(4)
    played.finish("interrupted")
    held, begin = threading.Event(), threading.Event()

    def start() -> None:
        with running(played.folder):
            held.set()
            begin.wait(60)

    thread = threading.Thread(target=start)
    thread.start()
    assert held.wait(10)
    threading.Timer(1.0, begin.set).start()
    assert verbs.report("toy", str(storage)) == 0
    thread.join()
    said = capsys.readouterr()
    assert said.err == "toy: waiting for a launch that is about to begin or to end\n"
    assert said.out == f"{played.folder / 'report.html'}\n"


def test_a_report_uploads_nothing_while_a_launch_runs_elsewhere(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launch ends in the meantime: its tables are newer."""
    played = Played(storage).run(4)
    monkeypatch.chdir(tmp_path)
    original = report.write

    def slow(folder: Path) -> Path:
        page = original(folder)
        if folder != played.folder:
            played.run().finish()
            (played.folder / alive_file.FILE).write_text('{"time": 0, "where": ""}')
        return page

    monkeypatch.setattr(report, "write", slow)
    with running_elsewhere(played.folder):
        assert verbs.report("toy", f"bucket://{storage}") == 0
    assert (pd.read_parquet(played.folder / "trials.parquet").status == "completed").sum() == 6


def test_a_report_of_nothing_is_one_message(storage: Path, capsys: Printed) -> None:
    Played(storage).finish()
    assert "no report of toy" in refused(capsys, "report", "toy", "--storage", str(storage))


# sync


def test_sync_names_its_store_and_what_is_wrong(storage: Path, capsys: Printed) -> None:
    Played(storage).run().finish()
    arguments = ["sync", "toy", "--storage", str(storage), "--tracking-uri"]
    assert "no such store" in refused(capsys, *arguments, "foo://bar")


def test_sync_writes_to_the_store_that_the_sweep_has(
    storage: Path, tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Played(storage).run().finish()
    written: list[str] = []

    def write(found: Path, uri: str, checkpoints: str = "") -> list[str]:
        assert (found / "report.html").exists()  # it is attached
        written.append(uri)
        return []

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlflow_writer, "sync", write)
    assert main(["sync", "toy", "--storage", str(storage)]) == 0
    MlflowFile("postgresql://me@host/db").write(folder)
    assert main(["sync", "toy", "--storage", str(storage)]) == 0
    assert written == ["sqlite:///mlflow.db", "postgresql://me@host/db"]
    MlflowFile("postgresql://me:***@host/db").write(folder)
    assert "give --tracking-uri with the password" in refused(
        capsys, "sync", "toy", "--storage", str(storage)
    )


def test_sync_at_a_url_uploads_what_it_made(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a machine that has no copy."""
    folder = Played(storage).run().finish()

    def write(found: Path, uri: str, checkpoints: str = "") -> list[str]:
        MlflowFile(uri, runs={"a-d0-s1": "run1"}).write(found)
        rebuild(found)
        return []

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlflow_writer, "sync", write)
    assert main(["sync", "toy", "--storage", f"bucket://{storage}"]) == 0
    assert MlflowFile.read(folder).runs == {"a-d0-s1": "run1"}
    assert "run1" in set(pd.read_parquet(folder / "trials.parquet").mlflow_run_id)
    assert (folder / "report.html").exists() and (folder / "report").is_dir()


# The printed command


def test_the_command_that_continues_can_be_pasted(tmp_path: Path, capsys: Printed) -> None:
    storage = tmp_path / "my results"
    folder = Played(storage).run(of=breaks).finish()
    MlflowFile("sqlite:////data/my runs.db").write(folder)
    assert main(["retry", "toy", "--storage", str(storage)]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    words = shlex.split(said.partition(" run ")[2])
    assert words == [
        *(str(folder / "sweep.yaml"), "--resume", "--storage", str(storage)),
        *("--tracking-uri", "sqlite:////data/my runs.db"),
    ]


def test_the_command_that_writes_to_mlflow_can_be_pasted(tmp_path: Path) -> None:
    """With blanks in the storage and in the store's address, and without the store's password."""
    uri = "sqlite:////data/my runs.db"
    said = sync_hint("toy", Storage(tmp_path / "my results"), uri, "no answer")
    words = shlex.split(said.partition("run: ")[2])
    assert words[:5] == ["python", "-m", "sweeps", "sync", "toy"]
    assert words[5:] == ["--storage", str(tmp_path / "my results"), "--tracking-uri", uri]
    assert "hidden" not in sync_hint("toy", Storage("results"), "http://me:hidden@host:5000", "hidden")


def test_a_command_names_no_file_that_is_not_here(
    storage: Path, tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played(storage).run(1)
    monkeypatch.chdir(tmp_path)
    with running_elsewhere(played.folder):

        def sleep(seconds: float) -> None:
            played.finish()
            (played.folder / alive_file.FILE).write_text('{"time": 0, "where": ""}')

        monkeypatch.setattr(verbs.time, "sleep", sleep)
        assert main(["stop", "toy", "--storage", f"bucket://{storage}"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "Continue: the command that launched it, with --resume"


# best


def keep_checkpoint(folder: Path, trial_id: str, *steps: int) -> None:
    for step in steps:
        (folder / "checkpoints" / trial_id / f"step_{step:09d}").mkdir(parents=True)


def test_best_prints_the_checkpoint_of_the_best_arms_best_trial_last(storage: Path, capsys: Printed) -> None:
    folder = Played(storage).run().finish()
    keep_checkpoint(folder, "b-d0-s2", 1, 2)  # seed 2 is the better one; only step 1 was reported
    assert main(["best", "toy", "--storage", str(storage)]) == 0
    *said, last = capsys.readouterr().out.splitlines()
    assert last == str(folder.resolve() / "checkpoints" / "b-d0-s2" / "step_000000001")
    assert "b-d0-s2" in said[0] and "not the arm's value" in said[0]


def test_for_a_loss_best_is_the_lowest(storage: Path, capsys: Printed) -> None:
    folder = Played(storage, objective={"metric": "accuracy", "mode": "min"}).run().finish()
    keep_checkpoint(folder, "a-d0-s1", 1)
    assert main(["best", "toy", "--storage", str(storage)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("a-d0-s1/step_000000001")


def test_best_without_a_checkpoint_says_why(storage: Path, capsys: Printed) -> None:
    Played(storage).finish()
    assert "no trial has reported accuracy yet" in refused(capsys, "best", "toy", "--storage", str(storage))
    Played(storage).run().finish()
    assert "b-d0-s2 has no checkpoint" in refused(capsys, "best", "toy", "--storage", str(storage))


def test_best_while_the_best_arms_completed_trial_has_no_value(storage: Path, capsys: Printed) -> None:
    played = Played(storage, ablate={"model.kind": ["b"]})
    played.controller.ended(played.start(), "completed")
    played.controller.report(played.start(), {"step": 1, "samples": 1.0, "accuracy": 0.9})
    played.end()
    assert status_of(storage, capsys)["best"]["value"] == 0.9
    assert "leads, but none of its trials has completed" in refused(
        capsys, "best", "toy", "--storage", str(storage)
    )


# A URL


def test_a_sweep_at_a_url_is_read_stopped_and_tried_again(
    storage: Path, tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played(storage).run(of=breaks)
    keep_checkpoint(played.folder, "a-d0-s2", 1)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    url = f"bucket://{storage}"
    with running_elsewhere(played.folder):
        assert main(["status", "toy", "--storage", url, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["state"] == "running"
        assert main(["stop", "toy", "--storage", url, "--timeout", "0.1"]) == 1
        assert (played.folder / stop_request.FILE).exists()
        played.finish()
    assert main(["list", "--storage", url]) == 0
    assert "finished" in capsys.readouterr().out
    assert not list((tmp_path / "here").iterdir())
    assert main(["retry", "toy", "--storage", url]) == 0
    assert list(read_journal(played.folder / "journal.jsonl"))[-1]["cause"] == "asked"


def test_options_from_python_may_be_a_path_but_not_one_text(storage: Path) -> None:
    folder = Played(storage).run().finish()
    assert sweeps.run(storage / "toy.yaml", storage=storage, quiet=True).folder == folder
    with pytest.raises(SpecError, match=r"give \('lr=1',\)"):
        sweeps.run(storage / "toy.yaml", storage=storage, overrides="lr=1")


@pytest.mark.parametrize("verb", ["retry", "sync"])
def test_a_sweep_that_runs_on_another_machine_is_left_alone(
    storage: Path, tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Also if it reports once an hour, and if this machine has a copy of all that it wrote."""
    hour_ago = time.time() - 3600
    with monkeypatch.context() as then:
        then.setattr("sweeps.record.journal.time.time", lambda: hour_ago)
        folder = Played(storage).run(2, of=breaks).end()
    url = f"bucket://{storage}"
    monkeypatch.chdir(tmp_path)
    assert Storage(url).folder("toy").is_dir()
    with running_elsewhere(folder):
        assert "toy is running" in refused(capsys, verb, "toy", "--storage", url)
    with running_elsewhere(folder, now=hour_ago):  # its machine was lost
        assert main(["status", "toy", "--storage", url, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["state"] == "interrupted"


# From Python


def test_status_and_load_from_python(storage: Path) -> None:
    played = Played(storage, scheduler=ASHA).run(2)
    with running(played.end()):
        assert sweeps.status("toy", str(storage))["state"] == "running"
        sweep = sweeps.load("toy", str(storage))
    assert (sweep.trials["status"] == "completed").sum() == 2 and len(sweep.history) == 2
    assert sweeps.status("toy", storage)["folder"] == str(played.folder)  # a Path will do
    assert len(sweeps.load("toy", storage).trials) == len(sweep.trials)
    assert sweep.folder == played.folder and not (played.folder / "trials.parquet").exists()
    with pytest.raises(SpecError, match="did you mean toy"):
        sweeps.load("tyo", str(storage))


def test_the_tables_name_the_mlflow_runs_wherever_they_are_made(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played(storage).run(2)
    MlflowFile("sqlite:///x.db", link="http://host/page", runs={"a-d0-s1": "run1"}).write(played.folder)

    def runs(trials: pd.DataFrame) -> dict[str, str]:
        named = trials[trials.mlflow_run_id.fillna("") != ""]
        return dict(zip(named.trial_id, named.mlflow_run_id, strict=True))

    with running(played.end()):
        assert runs(sweeps.load("toy", str(storage)).trials) == {"a-d0-s1": "run1"}
        verbs.report("toy", str(storage))
        assert runs(pd.read_parquet(played.folder / "trials.parquet")) == {"a-d0-s1": "run1"}
        assert "http://host/page" in (played.folder / "report.html").read_text()
    monkeypatch.chdir(tmp_path)
    verbs.report("toy", f"bucket://{storage}")  # from a machine that has no copy
    assert runs(pd.read_parquet(played.folder / "trials.parquet")) == {"a-d0-s1": "run1"}
