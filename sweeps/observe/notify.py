"""`--notify URL`: posts a JSON summary at the end of a launch, and a message at its first failed trial.

A webhook's URL is a secret. `--notify env:NAME` takes it from an environment variable, and so keeps it out of
the list of processes and the shell's history; only its host is ever printed or logged.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sweeps.record.journal import Event
from sweeps.record.secrets import without_secret
from sweeps.record.state import RUNNING
from sweeps.space.errors import SpecError

TIMEOUT_S = 10.0
MAX_TEXT = 1900  # characters; Discord takes 2000
logger = logging.getLogger(__name__)


def webhook(option: str) -> str:
    """The URL that `--notify` names. Raises SpecError, which does not repeat it."""
    url, name = option, option.removeprefix("env:")
    if name != option:
        url = os.environ.get(name, "")
        if not url:
            raise SpecError(
                f"--notify env:{name}: there is no environment variable {name}: set it to the URL"
            )
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SpecError(
            "--notify: must be a URL that takes a POST, such as https://example.org/hook, or env:NAME with "
            "the name of an environment variable that holds it"
        )
    return url


class FirstFailure:
    """A listener of the journal: posts a message at the first failed trial of a launch, from a thread."""

    def __init__(self, url: str, sweep: str) -> None:
        self._url, self._sweep = url, sweep
        self._is_posted = False

    def __call__(self, event: Event) -> None:
        if event["event"] == "end" and event["status"] == "failed" and not self._is_posted:
            self._is_posted = True
            threading.Thread(target=self._post, args=(event,), daemon=True).start()

    def _post(self, end: Event) -> None:
        reason = without_secret(str(end.get("reason", "")))
        message = {
            "sweep": self._sweep,
            "state": RUNNING,
            "status": RUNNING,
            "failed": {"trial_id": end["trial_id"], "reason": reason},
            "text": f"{self._sweep}: the first trial has failed: {end['trial_id']}: {reason}",
        }
        if error := notify(self._url, message):
            logger.warning("--notify: %s", error)


def notify(url: str, message: Mapping[str, Any]) -> str:
    """Post a message. Returns a text if the server did not accept it, else ''. Does not raise.

    Its `text` is what Slack shows; Discord shows `content`, which is the same.
    """
    text = str(message.get("text", ""))[:MAX_TEXT]
    body = json.dumps({**message, "text": text, "content": text}, default=str).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    failure = ["TimeoutError"]

    def post() -> None:
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                failure[0] = ""
        except Exception as error:  # any kind: a failed notification must not fail the launch
            code = getattr(error, "code", None)
            failure[0] = f"HTTP status {code}" if code else type(getattr(error, "reason", error)).__name__

    thread = threading.Thread(
        target=post, daemon=True
    )  # urllib's timeout is for each read, not for the whole
    thread.start()
    thread.join(TIMEOUT_S)
    return f"{urlsplit(url).hostname} did not accept the message ({failure[0]})" if failure[0] else ""
