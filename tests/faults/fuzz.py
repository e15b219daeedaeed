"""Damaged bytes, and JSON with any value anywhere, for the tests of hostile input."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import build
from tests.chance import times


def fuzz(few: int, many: int) -> settings:
    """Return settings with a number of examples; hypothesis prints how to repeat a failure."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        max_examples=times(few, many), deadline=None, suppress_health_check=checks, print_blob=True
    )


def run(*arguments: object) -> tuple[int, str]:
    """A command of `build.py` in this process: any exception would be a user's traceback."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = build.main([str(argument) for argument in arguments])
    return code, said.getvalue()


def damaged(data: st.DataObject, content: bytes) -> bytes:
    """The content with a few bytes changed, put in, taken out or cut off."""
    whole = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole)))
        gone = data.draw(st.sampled_from([0, 1, 1, 1, 4, 64, len(whole)]))
        whole[at : at + gone] = data.draw(st.binary(max_size=8))
    return bytes(whole)


PIECES = st.sampled_from(
    ["{", "}", "[", "]", ":", "- ", "\n", "\t", "&a", "*a", "!!python/name:os.system", '"', "'",
     "#",
     "|", ">", "? ", "<<: ", "~", "9" * 5000, "\u2028", "\U0001f600", "\ud800", "==", "{sglang}",
     "((((", "%", "@", "1e999", "0x1", ">=", "\x00", "\x85", "\ufeff", "٣", "../../x"]
) | st.text(max_size=4)  # fmt: skip
"""Troublesome pieces of a matrix."""

LEAVES = (
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(
        ["sha256:" + "0" * 64, "sha256:../../../etc/passwd", "sha512:0", "\ud800", 1 << 70]
    )
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def altered(data: st.DataObject, document: Any) -> None:
    """Put any value in any place of a JSON document."""
    place = document
    while isinstance(place, (dict, list)) and place:
        index = data.draw(st.integers(0, len(place) - 1))
        key = list(place)[index] if isinstance(place, dict) else index
        inner = place[key]
        if data.draw(st.booleans()) or not isinstance(inner, (dict, list)) or not inner:
            place[key] = data.draw(TREES)
            return
        place = inner
