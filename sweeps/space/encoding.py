"""Values as strict JSON has them."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any


def encode(value: Any) -> Any:
    """Non-finite floats as strings, since JSON has none; `float("nan")` reads them back."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return value


def digest(content: dict[str, Any]) -> str:
    """sha256 of the canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
