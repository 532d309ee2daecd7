"""Encodes values as strict JSON."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any


def encode(value: Any) -> Any:
    """The value with non-finite floats as strings, as JSON has no NaN; `float("nan")` reads them back."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return value


def digest(content: dict[str, Any]) -> str:
    """The SHA-256 of the content as JSON with sorted keys, as hexadecimal text."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
