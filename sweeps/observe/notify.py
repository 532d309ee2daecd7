"""`--notify URL`: posts a JSON summary at the end of a launch."""

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
    """Raise SpecError unless it is an HTTP URL. Only its host is ever printed: a webhook's URL is a
    secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SpecError("--notify: must be a URL that takes a POST, such as https://example.org/hook")


def notify(url: str, summary: Mapping[str, Any]) -> str:
    """Post the summary. Returns a message if the server did not accept it, else ''. Does not raise."""
    body = json.dumps(summary, default=str).encode()
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
    return f"{urlsplit(url).hostname} did not accept the summary ({failure[0]})" if failure[0] else ""
