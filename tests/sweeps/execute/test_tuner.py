"""What the driver makes of a worker's results, with Ray's part played by hand."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune import PlacementGroupFactory

from sweeps.decide.controller import Controller
from sweeps.execute.trial import Payload
from sweeps.execute.trial_log import TrialLog
from sweeps.execute.tuner import (
    CallbackAdapter,
    Leave,
    SchedulerAdapter,
    SearcherAdapter,
    _Nodes,
    _payload,
)
from sweeps.execute.worker import TrialActor
from sweeps.plan.resources import ClusterResources, Node
from sweeps.record.journal import Event, Journal, read_journal
from tests.sweeps.spaces import toy_plan

UNNAMED = "tests.sweeps.execute.unruly_trainer:train"  # it does not say what it reports


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


ACTORS = {"a" * 32: "first-node", "b" * 32: "second-node"}


@pytest.fixture(autouse=True)
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    there = ClusterResources(tuple(Node(1, 0, node, "vm") for node in ACTORS.values()))
    monkeypatch.setattr("sweeps.execute.cluster.nodes", lambda: there)
    monkeypatch.setattr("sweeps.execute.cluster.node_of", ACTORS.__getitem__)


class Driver:
    """A sweep of one trial, which has started, and the adapters between Ray and its controller."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        space = {"ablate": {"model.kind": ["b"]}, "seeds": [1], "max_failures": 1, **changes}
        self.controller = Controller(toy_plan(folder, **space), Journal(folder / "journal.jsonl"))
        self.controller.begin()
        trial = self.controller.next_trial()
        assert trial is not None
        self.payload = _payload(self.controller, trial, str(folder), folder / "logs")
        self.trial_id = trial.trial_id
        self._journal = folder / "journal.jsonl"
        self.is_told_to_end = False
        leave = self.leave = Leave(lambda: False, lambda: self.is_told_to_end, grace_s=60)
        nodes = self.nodes = _Nodes(self.controller, None, None)
        self.scheduler = SchedulerAdapter(self.controller, leave)
        self.callback = CallbackAdapter(self.controller, leave, nodes, folder / "logs")
        actor = SimpleNamespace(_actor_id=bytes.fromhex("a" * 32))
        self.trial = SimpleNamespace(
            trial_id="1",
            temporary_state=SimpleNamespace(ray_actor=actor),
            config={"payload": self.payload.dumps()},
            last_result={},
            error_file=str(folder / "error.txt"),
            pickled_error_file=str(folder / "error.pkl"),
            run_metadata=SimpleNamespace(pickled_error_filename="error.pkl"),
        )
        (folder / "error.pkl").write_bytes(pickle.dumps(Bomb(folder / "exploded")))
        (folder / "error.txt").write_text("Failure # 1\nThe actor died.\n\tpid: 7\nIts node was lost.\n")
        self.callback.on_trial_start(0, [], self.trial)

    def result(self, outcome: str = "", **more: Any) -> str:
        """A step's result comes, and where it is a failure, the process ends."""
        result = {
            "report": [],
            "repeated": False,
            "warnings": [],
            "outcome": outcome,
            "reason": "",
            "log": "",
        }
        result |= more
        decision = self.scheduler.on_trial_result(None, self.trial, result)
        self.trial.last_result = result
        if outcome:
            assert decision == self.scheduler.CONTINUE
            self.callback.on_trial_error(0, [], self.trial)
        self.callback.on_step_begin(1, [])
        return decision

    def dies(self) -> None:
        self.callback.on_trial_error(0, [], self.trial)
        self.callback.on_step_begin(1, [])

    def waiting(self, nodes: list[str]) -> Callable[[], bool]:
        """Whether a trial that waits with Ray for one of these nodes is taken back, asked now."""
        payload = replace(self.payload, nodes=nodes).dumps()
        trial = SimpleNamespace(status="PENDING", PENDING="PENDING", config={"payload": payload})
        taken_back: list[Any] = []
        ray_tune = SimpleNamespace(
            get_live_trials=lambda: [trial], get_trials=list, stop_trial=taken_back.append
        )

        def ask() -> bool:
            self.scheduler.choose_trial_to_run(ray_tune)
            return bool(taken_back)

        return ask

    def events(self, *names: str) -> list[Event]:
        return [event for event in read_journal(self._journal) if event["event"] in names]


def test_a_failure_is_told_once_with_the_end_of_its_log(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.result("failed", reason="ValueError: no", log="Traceback\n...")
    (event,) = driver.events("retry", "end")
    assert (event["event"], event["reason"], event["log"]) == ("retry", "ValueError: no", "Traceback\n...")
    assert driver.controller.state.trials[driver.trial_id].failures == 1


def test_the_last_failure_has_its_log_too(tmp_path: Path) -> None:
    driver = Driver(tmp_path, max_failures=0)
    driver.result("failed", reason="ValueError: no", log="Traceback\n...")
    (event,) = driver.events("retry", "end")
    assert (event["event"], event["log"]) == ("end", "Traceback\n...")
    assert "cause" not in event


def test_a_wrong_report_is_not_tried_again(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.result("misused", reason="WrongReport: no")
    (event,) = driver.events("retry", "end")
    assert (event["event"], event["status"], event["reason"]) == ("end", "failed", "WrongReport: no")


def test_every_warning_of_a_result_is_told(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.result(warnings=["one", "two"], report=[("step", 1.0), ("samples", 10.0), ("accuracy", 0.1)])
    end = {"report": [], "warnings": ["three"], "outcome": "completed", "reason": "", "log": ""}
    driver.scheduler.on_trial_complete(None, driver.trial, end)
    assert [event["text"] for event in driver.events("warning")] == ["one", "two", "three"]
    assert driver.controller.state.trials[driver.trial_id].status == "completed"


def test_nothing_is_unpickled_that_another_user_may_have_written(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.dies()
    assert not (tmp_path / "exploded").exists()
    assert driver.trial.run_metadata.pickled_error_filename is None  # nor by Ray, at the end
    (event,) = driver.events("retry", "end")
    assert event["reason"] == "Its node was lost."


def test_a_worker_that_died_is_lost_and_the_driver_reads_its_log(tmp_path: Path) -> None:
    driver = Driver(tmp_path, max_failures=0)
    TrialLog(Path(driver.payload.log), driver.payload.attempt).write("its last words\n")
    driver.dies()
    (event,) = driver.events("retry", "end")
    assert (event["cause"], event["log"]) == ("lost", "its last words")


def test_a_worker_that_was_killed_by_its_timer_has_failed_by_itself(tmp_path: Path) -> None:
    driver = Driver(tmp_path, max_failures=0, max_silence_s=30)
    assert driver.payload.max_silence_s == 30
    TrialLog(Path(driver.payload.log), driver.payload.attempt).write("Timeout (0:00:35)!\nThread 0x1:\n")
    driver.dies()
    (event,) = driver.events("retry", "end")
    assert event["reason"] == "no report for 30 s (max_silence_s)" and "cause" not in event


def test_the_log_of_an_earlier_attempt_says_nothing_of_this_one(tmp_path: Path) -> None:
    driver = Driver(tmp_path, max_failures=0, max_silence_s=30)
    TrialLog(Path(driver.payload.log), driver.payload.attempt + 1).write("Timeout (0:00:35)!\n")
    driver.dies()
    (event,) = driver.events("retry", "end")
    assert event["cause"] == "lost" and "log" not in event


def test_a_trial_that_reports_another_metric_is_told_at_its_first_report_and_ended_at_the_third(
    tmp_path: Path,
) -> None:
    driver = Driver(tmp_path, trainer=UNNAMED, base={}, ablate={"does": ["raises"]})
    reports = [[("step", step), ("samples", 10.0 * step), ("acc", 0.1)] for step in (1.0, 2.0, 3.0)]
    assert driver.result(report=reports[0]) == driver.scheduler.CONTINUE
    (warning,) = driver.events("warning")
    assert "the first report lacks the objective, accuracy; it has acc" in warning["text"]
    assert "describe()" in warning["text"]
    assert driver.result(report=reports[1]) == driver.scheduler.CONTINUE
    assert driver.result(report=reports[2]) == driver.scheduler.STOP
    assert len(driver.events("warning")) == 1 and not driver.events("retry")
    (end,) = driver.events("end")
    assert end["status"] == "failed" and "3 reports lack the objective, accuracy" in end["reason"]


@pytest.mark.parametrize("trainer", ["tests.sweeps.toy_trainer:train", UNNAMED])
def test_a_trainer_that_evaluates_rarely_is_left_alone(tmp_path: Path, trainer: str) -> None:
    """If it names its metrics, or has reported the objective once."""
    changes = {"base": {}, "ablate": {"does": ["raises"]}} if trainer == UNNAMED else {}
    driver = Driver(tmp_path, trainer=trainer, **changes)
    for step in range(1, 6):
        objective = [("accuracy", 0.1)] if trainer == UNNAMED and step == 1 else []
        report = [("step", float(step)), ("samples", 10.0 * step), ("loss", 0.1), *objective]
        assert driver.result(report=report) == driver.scheduler.CONTINUE
    assert not driver.events("warning", "end", "retry")


def test_a_payload_survives_its_journey(tmp_path: Path) -> None:
    payload = Driver(tmp_path, max_silence_s=30).payload
    assert Payload.loads(payload.dumps()) == payload and payload.attempt == 1


def test_a_start_and_a_loss_name_the_node_also_where_the_worker_could_not_be_set_up(tmp_path: Path) -> None:
    driver = Driver(tmp_path, max_failures=0)
    (start,) = driver.events("start")
    assert (start["node"], start["host"]) == ("first-node", "vm")
    driver.dies()
    (lost,) = driver.events("retry")
    assert lost["node"] == "first-node"
    assert driver.controller.retries.nodes(driver.trial_id) == ["second-node"]
    told = f"The actor died in its creation task (pid=7, actor_id={'b' * 32})\nImportError: no\n"
    Path(driver.trial.error_file).write_text(told)
    driver.dies()
    assert [event["node"] for event in driver.events("retry")] == ["first-node", "second-node"]


def test_after_a_signal_a_report_stops_the_trial_and_a_failure_is_still_told(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    report = [("step", 1.0), ("samples", 10.0), ("accuracy", 0.1)]
    assert driver.result(report=report) == driver.scheduler.CONTINUE
    driver.is_told_to_end = True
    assert driver.result(report=report) == driver.scheduler.STOP
    driver.result("failed", reason="ValueError: no")
    assert [event["reason"] for event in driver.events("retry", "end")] == ["ValueError: no"]


def test_the_budget_is_not_spent_while_a_lost_trial_waits(tmp_path: Path) -> None:
    driver = Driver(tmp_path, budget={"trials": 1})
    searcher = SearcherAdapter(driver.controller, driver.leave, driver.nodes, lambda trial: driver.payload)
    driver.dies()
    assert driver.controller.out_of_budget and driver.controller.retries.waits(driver.trial_id)
    assert searcher.suggest("2") is None
    driver.controller.ended(driver.trial_id, "failed")
    assert searcher.suggest("3") == SearcherAdapter.FINISHED


def test_a_worker_that_could_not_be_set_up_is_not_judged_by_the_crash_before_it(tmp_path: Path) -> None:
    driver = Driver(tmp_path, max_failures=1)
    TrialLog(Path(driver.payload.log), 1).write("Fatal Python error: Segmentation fault\n")
    driver.dies()
    second = replace(driver.payload, attempt=2)
    driver.trial.config = {"payload": second.dumps()}
    driver.dies()
    assert [event.get("cause") for event in driver.events("retry", "end")] == [None, "lost"]


def test_an_error_of_the_checkpoints_store_is_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any) -> None:
        raise OSError("s3://key:secret@bucket cannot be reached")

    driver = Driver(tmp_path, max_failures=0)
    monkeypatch.setattr("sweeps.execute.trial.checkpoint_store", broken)
    monkeypatch.setattr("ray.get_gpu_ids", list)
    worker = object.__new__(TrialActor)
    worker._payload = driver.payload
    result = worker.step()
    driver.result(result["outcome"], reason=result["reason"])
    (event,) = driver.events("retry", "end")
    assert (event["event"], event["cause"]) == ("retry", "lost")
    assert "cannot be reached" in event["reason"] and "secret" not in event["reason"]


def test_what_ray_tells_of_a_death_is_recorded_without_passwords(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    Path(driver.trial.error_file).write_text("OSError: s3://key:secret@bucket cannot be reached\n")
    driver.dies()
    (event,) = driver.events("retry")
    assert "cannot be reached" in event["reason"] and "secret" not in event["reason"]


@pytest.mark.parametrize(
    ("nodes", "stopped"), [(["second-node"], True), (["first-node", "second-node"], False)]
)
def test_a_trial_that_waits_for_a_node_that_died_is_taken_back(
    tmp_path: Path, nodes: list[str], stopped: bool
) -> None:
    """It was lost on the first node, and the second one dies."""
    driver = Driver(tmp_path)
    taken_back = driver.waiting(nodes)
    assert not taken_back()
    driver.controller.see_nodes(ClusterResources((Node(1, 0, "first-node", "vm"),)))
    assert taken_back() == stopped


def test_a_trial_that_waits_is_taken_back_from_a_node_that_is_excluded(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    taken_back = driver.waiting(["first-node", "second-node"])
    assert not taken_back()
    driver.controller.retries.exclude("second-node", "its GPU is broken")
    assert taken_back()


def test_a_node_that_is_not_inspected_or_joins_later_is_none_of_a_trials(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    inspects: Any = SimpleNamespace(passed=lambda nodes, failed: nodes.without({"second-node"}))
    _Nodes(driver.controller, None, inspects)
    trial = driver.controller._trial_plan(driver.controller.state.trials[driver.trial_id])
    given = _payload(driver.controller, trial, str(tmp_path), tmp_path)
    there = {"ray.io/node-id": "in(first-node)"}
    wanted = PlacementGroupFactory([{"CPU": given.cpu, "GPU": 0}], bundle_label_selector=[there])
    assert TrialActor.default_resource_request({"payload": given.dumps()}) == wanted


def test_a_report_that_is_repeated_from_a_checkpoint_does_not_end_a_row_of_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(tmp_path)
    speaks: list[str] = []
    monkeypatch.setattr(driver.controller.retries, "reported", speaks.append)
    for step, repeated in ((1.0, True), (2.0, False)):
        report = [("step", step), ("samples", 10.0), ("accuracy", 0.1)]
        driver.result(report=report, repeated=repeated)
        assert bool(speaks) != repeated
