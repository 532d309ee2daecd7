"""The webhook at a sweep's end: what is posted, and that its failure is nothing but a line."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sweeps.observe import notify as module
from sweeps.observe.notify import FirstFailure, notify, webhook
from sweeps.observe.summary import summary
from sweeps.space.errors import SpecError
from tests.sweeps.decide.test_controller import controller, play
from tests.sweeps.spaces import toy_plan

SECRET = "T0K3N"


class Hook(HTTPServer):
    """Keeps what it is sent. The path says how it answers: a status, or not at all."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.enough = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    def url(self, answer: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{answer}/{SECRET}"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.headers["Content-Type"], body))
        answer = self.path.split("/")[1]
        if answer == "never":
            self.server.enough.wait(20)
            return
        self.send_response(int(answer))
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.enough.set()
    server.shutdown()
    server.server_close()


def test_the_summary_arrives_as_json(hook: Hook, tmp_path: Path) -> None:
    made = controller(toy_plan(tmp_path), tmp_path)
    play(made)
    assert notify(hook.url("200"), summary(made, tmp_path, 0, "completed")) == ""
    ((kind, body),) = hook.taken
    told = json.loads(body)
    assert kind == "application/json"
    assert told["sweep"] == "toy" and (told["state"], told["status"]) == ("finished", "completed")
    assert told["exit_status"] == 0
    assert told["trials"] == {"completed": 6}
    assert told["best"] == {"trial_id": "b-d0-s2", "value": pytest.approx(0.902)}
    assert told["spent"]["samples"] == 600


@pytest.mark.parametrize(("answer", "word"), [("500", "HTTP status 500"), ("never", "imeout")])
def test_a_hook_that_does_not_take_it_is_a_line_without_its_secret(
    hook: Hook, monkeypatch: pytest.MonkeyPatch, answer: str, word: str
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.5)
    trouble = notify(hook.url(answer), {"sweep": "toy"})
    assert "127.0.0.1" in trouble and word in trouble and SECRET not in trouble


def test_nobody_there(hook: Hook) -> None:
    trouble = notify("http://127.0.0.1:9/hook/T0K3N", {})
    assert "ConnectionRefusedError" in trouble and SECRET not in trouble


@pytest.mark.parametrize(
    "url", ["", "example.org/T0K3N", "ftp://example.org/T0K3N", "http:///T0K3N", "http://[T0K3N"]
)
def test_what_is_no_url_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(SpecError) as refused:
        webhook(url)
    assert SECRET not in str(refused.value)


def test_a_chat_shows_the_text_that_is_posted(hook: Hook, tmp_path: Path) -> None:
    made = controller(toy_plan(tmp_path), tmp_path)
    play(made)
    assert notify(hook.url("200"), summary(made, tmp_path, 0, "completed")) == ""
    told = json.loads(hook.taken[0][1])
    assert told["text"] == "toy: completed, exit status 0: 6 completed; best accuracy 0.902 (b-d0-s2)"
    assert told["content"] == told["text"]  # Slack shows the one, Discord the other
    notify(hook.url("200"), {"text": "x" * 5000})
    assert len(json.loads(hook.taken[1][1])["content"]) < 2000  # Discord refuses more


def test_the_first_failed_trial_of_a_launch_is_posted_at_once(hook: Hook, tmp_path: Path) -> None:
    made = controller(toy_plan(tmp_path, max_failures=0), tmp_path)
    made._journal.listeners.append(FirstFailure(hook.url("200"), "toy"))
    for trial_id in ("a-d0-s1", "b-d0-s1", "c-d0-s1"):
        made.started(trial_id)
        made.report(trial_id, {"step": 1, "samples": 10, "accuracy": 0.4})
        made.ended(trial_id, "completed" if trial_id.startswith("a") else "failed", f"{trial_id} broke")
    deadline = time.monotonic() + 10
    while not hook.taken and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    ((_, body),) = hook.taken
    told = json.loads(body)
    assert told["failed"] == {"trial_id": "b-d0-s1", "reason": "b-d0-s1 broke"}
    assert "b-d0-s1 broke" in told["text"]


def test_the_url_may_stand_in_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_NOTIFY_URL", "https://example.org/T0K3N")
    assert webhook("env:SWEEP_NOTIFY_URL") == "https://example.org/T0K3N"
    monkeypatch.setenv("SWEEP_NOTIFY_URL", "T0K3N")
    for option in ("env:SWEEP_NOTIFY_URL", "env:NOT_SET"):
        with pytest.raises(SpecError) as refused:
            webhook(option)
        assert SECRET not in str(refused.value)
