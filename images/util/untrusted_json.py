"""Untrusted JSON."""

from __future__ import annotations

import json
from typing import Any


def loads(text: bytes | str) -> Any:
    """Return the value of a JSON document.

    Raises:
        ValueError: it is not JSON, or nested too deeply for Python.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
