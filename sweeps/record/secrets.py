"""Hides the password in a URI before it is printed or logged."""

from __future__ import annotations

from urllib.parse import urlsplit


def without_secret(uri: str) -> str:
    """`postgresql://me:secret@host/db` -> `postgresql://me:***@host/db`."""
    try:
        password = urlsplit(uri).password
    except ValueError:
        return "an address that cannot be read"
    return uri.replace(f":{password}@", ":***@", 1) if password else uri
