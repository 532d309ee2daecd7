"""Hides passwords and tokens in a URI, in a text with URIs and in a config, before it is shown or logged."""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

_HIDDEN = "***"
# A URI's user and password, which may hold any character, such as `/`, `#` or `?`: it goes up to the last @.
# An HTTP user without a password is a token; a database's is only a name.
_USER = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<name>[^\s/?#:@]*)(?P<password>:\S*)?@")
# The names that clients and stores use for a secret.
_NAME = (
    r"[\w.-]*(?:password|passwd|pwd|token|secret|signature|credentials?)"
    r"|sig|auth|odbc_connect|(?:[\w-]*[-_])?(?:api|access|account|private|shared)?[-_]?key"
)
# The keys of a config: not `pad_token` or `sort_key`, which are none.
_NAMES_SECRET = re.compile(
    r"(?i)(?:[\w.-]*[_.-])?(?:passwords?|passwd|pwd|passphrase|secrets?|credentials?|signature|bearer|auth"
    r"|(?:api|access|account|private|shared|secret)[_-]?keys?)"
    r"|(?:[\w.-]*(?:api|auth|access|refresh|bearer|hub|hf|wandb|secret)[_-]?)?tokens?"
)
# `password=...` in a query or in a connection string.
_FIELD = re.compile(rf"(?i)\b(?P<name>{_NAME})=(?P<value>[^\s&;,'\"<>#)]+)")


def without_secret(text: str, uri: str = "") -> str:
    """`postgresql://me:secret@host/db?sslpassword=x` -> `postgresql://me:***@host/db?sslpassword=***`.

    The password of `uri` is also hidden where it stands alone in the text, as in a client's message.
    """
    text = _FIELD.sub(rf"\g<name>={_HIDDEN}", _USER.sub(_user_alone, text))
    for secret in _secrets(uri):
        text = text.replace(secret, _HIDDEN)
    return text


def config_without_secret(value: Any, is_secret: bool = False) -> Any:
    """A config, or a value in it, with each text as `without_secret` gives it, and `***` for a text under a
    key with the name of a secret, such as `token` or `api_key`; numbers stay. `is_secret`: the value stands
    under such a key."""
    if isinstance(value, dict):
        names = {key: is_secret or _names_secret(key) for key in value}
        return {key: config_without_secret(item, names[key]) for key, item in value.items()}
    if isinstance(value, list):
        return [config_without_secret(item, is_secret) for item in value]
    if not isinstance(value, str):
        return value
    return _HIDDEN if is_secret and value else _config_text(value)


# Cached, as the configs of a sweep have the same keys, and mostly the same texts.
@lru_cache(maxsize=4096)
def _names_secret(key: str) -> bool:
    return bool(_NAMES_SECRET.fullmatch(key))


@lru_cache(maxsize=4096)
def _config_text(text: str) -> str:
    return without_secret(text)


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
