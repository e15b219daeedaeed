"""JSON that somebody else may have written."""

from __future__ import annotations

import json
from typing import Any


def loads(text: bytes | str) -> Any:
    """The value of a JSON document.

    Raises:
        ValueError: it is not JSON, or so deep that Python cannot read it.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
