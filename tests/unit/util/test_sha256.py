from __future__ import annotations

from images.util import sha256


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert sha256.of_json({"a": [1, "ü"], "b": 2}) == sha256.of_json({"b": 2, "a": [1, "ü"]})
    assert sha256.of_json([1, 2]) != sha256.of_json([2, 1])
    assert sha256.of_json({}) == (
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )
