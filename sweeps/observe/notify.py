"""`--notify URL`: a JSON summary of a launch, posted at its end."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sweeps.space.errors import SpecError

TIMEOUT_S = 10.0


def check_url(url: str) -> None:
    """Raises SpecError. Nothing of the URL but its host is ever shown: webhooks carry their secret in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SpecError("--notify: must be a URL that takes a POST, such as https://example.org/hook")


def notify(url: str, summary: Mapping[str, Any]) -> str:
    """Post the summary. Returns why it was not taken, or ''; raises nothing."""
    body = json.dumps(summary, default=str).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    answer = ["TimeoutError"]

    def post() -> None:
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                answer[0] = ""
        except Exception as error:  # of any kind: the sweep is over, and its results are there
            code = getattr(error, "code", None)
            answer[0] = f"HTTP status {code}" if code else type(getattr(error, "reason", error)).__name__

    thread = threading.Thread(target=post, daemon=True)  # urllib's timeout is one for each read
    thread.start()
    thread.join(TIMEOUT_S)
    return f"{urlsplit(url).hostname} did not take the summary ({answer[0]})" if answer[0] else ""
