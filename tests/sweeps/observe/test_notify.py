"""The webhook at a sweep's end: what is posted, and that its failure is nothing but a line."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sweeps.observe import notify as module
from sweeps.observe.notify import check_url, notify
from sweeps.observe.summary import summary
from sweeps.record.secrets import without_secret
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
    assert told["sweep"] == "toy" and told["status"] == "completed" and told["exit_status"] == 0
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
        check_url(url)
    assert SECRET not in str(refused.value)


def test_a_password_in_a_uri_is_not_shown() -> None:
    assert without_secret("postgresql://me:secret@db:5432/x") == "postgresql://me:***@db:5432/x"
    assert without_secret("sqlite:///mlflow.db") == "sqlite:///mlflow.db"
