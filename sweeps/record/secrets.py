"""Hides passwords and tokens in a URI, or in a text with URIs, before it is printed or logged."""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote

_HIDDEN = "***"
# A URI's user and password, which may hold any character, such as `/`, `#` or `?`: it goes up to the last @.
# An HTTP user without a password is a token; a database's is only a name.
_USER = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<name>[^\s/?#:@]*)(?P<password>:\S*)?@")
# `password=...` in a query or in a connection string, under the names that clients and stores use.
_FIELD = re.compile(
    r"(?i)\b(?P<name>[\w.-]*(?:password|passwd|pwd|token|secret|signature|credentials?)"
    r"|sig|auth|odbc_connect|(?:[\w-]*[-_])?(?:api|access|account|private|shared)?[-_]?key)"
    r"=(?P<value>[^\s&;,'\"<>#)]+)"
)


def without_secret(text: str, uri: str = "") -> str:
    """`postgresql://me:secret@host/db?sslpassword=x` -> `postgresql://me:***@host/db?sslpassword=***`.

    The password of `uri` is also hidden where it stands alone in the text, as in a client's message.
    """
    text = _FIELD.sub(rf"\g<name>={_HIDDEN}", _USER.sub(_user_alone, text))
    for secret in _secrets(uri):
        text = text.replace(secret, _HIDDEN)
    return text


class LogFormatter(logging.Formatter):
    """Hides passwords in log messages and tracebacks, as other packages' errors have whole URIs; that of
    `uri` also where it stands alone."""

    def __init__(self, uri: str = "") -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._uri = uri

    def format(self, record: logging.LogRecord) -> str:
        return without_secret(super().format(record), self._uri)


def _user_alone(match: re.Match[str]) -> str:
    scheme, name, password = match["scheme"], match["name"], match["password"]
    if password:
        return f"{scheme}://{name}:{_HIDDEN}@"
    is_token = name and scheme.lower() in ("http", "https")
    return f"{scheme}://{_HIDDEN if is_token else name}@"


def _secrets(uri: str) -> set[str]:
    """The password and tokens of a URI, as they stand there and decoded; none that is too short to be told
    from other text."""
    users = [match["password"] for match in _USER.finditer(uri) if match["password"]]
    found = [user.removeprefix(":") for user in users] + [match["value"] for match in _FIELD.finditer(uri)]
    return {form for secret in found for form in (secret, unquote(secret)) if len(form) > 3}


def hides_secret(text: str) -> bool:
    """Whether `without_secret` has hidden something in the text: such a URI cannot be used as it stands."""
    return _HIDDEN in text
