"""No input breaks the reader."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from images.errors import MatrixError
from images.inputs.matrix import yaml_nodes
from images.inputs.matrix.load import load
from tests.unit.inputs.matrix.conftest import SMALL, Reader


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "matrix.yaml: is empty"),
        ("# only a comment\n", "matrix.yaml: is empty"),
        ("---\n", "must be a mapping, not empty"),
        ("[1]\n", "must be a mapping, not a list"),
        ("a: b\n\tc: d\n", "spaces, not tabs"),
        ("a: 1\na: 2\n", "matrix.yaml:2: 'a' is here twice: first on line 1"),
        ("a: &x 1\n", "matrix.yaml:1: anchors and aliases"),
        ("a: 1\nb: *x\n", "matrix.yaml:2: anchors and aliases"),
        ("a: !!python/object/apply:os.system [id]\n", "the tag"),
        ("a: !mine 1\n", "the tag"),
        ("a: 1\n---\nb: 2\n", "matrix.yaml:2: a second document"),
        ("[" * 5000, "nest"),  # our limit's words, or those of PyYAML 6.0.4 and later
        ("? [a]\n: b\n", "a key must be text"),
        ('a: "\\0"\n', "control character"),
        ('a: "\\UFFFFFFFF"\n', "not valid YAML"),
        ("a: b\0c\n", "not valid YAML"),
        ("a: [b\n", "not valid YAML"),
        (b"a: b\nc: \xff\n", "matrix.yaml:2: not valid UTF-8"),
        (b"#" * (yaml_nodes.MAX_BYTES + 1), "larger than"),
    ],
)
def test_hostile_yaml_is_refused_cleanly(read: Reader, text: str | bytes, said: str) -> None:
    assert any(said in fault for fault in read.faults(text))


def test_the_pure_parser_reads_the_same(read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    fast = read()
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert read() == fast
    for text in ('a: "\\UFFFFFFFF"\n', 'a: "\\ud800"\n', "a: \x01\n", "[" * 5000):
        assert read.faults(text)


def test_a_byte_order_mark_and_crlf_are_read(read: Reader) -> None:
    assert read(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode()) == read()


def test_a_file_that_is_not_there(read: Reader, tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "none.yaml", "none.yaml: no such file"),
        (tmp_path, "directory"),
    ):
        with pytest.raises(MatrixError, match=said):
            load(path, read.runtime)
    with pytest.raises(MatrixError, match="cannot be read"):
        load(Path("a\0b"), read.runtime)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read(read: Reader) -> None:
    read()
    read.path.chmod(0)
    with pytest.raises(MatrixError, match="cannot be read"):
        load(read.path, read.runtime)


FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PIECES = st.sampled_from(
    ["{", "}", "[", "]", ":", "- ", "\n", "\t", "&a", "*a", "!!x", '"', "'", "\\", "#", "|", ">",
     "? ", "<<: ", "~", "9" * 5000, "\u2028", "\U0001f600", "==", "{sglang}", ",", "((((", "%", "@",
     "1e999", "0x1", ">=", "-", "\x85", "\ufeff", "٣", "../../x"]
)  # fmt: skip


def survives(read: Reader, text: str | bytes) -> None:
    try:
        message = str(read(text).path)
    except MatrixError as error:
        message = error.message
    assert message.encode()


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


@FUZZ
@given(st.binary(max_size=200) | st.text(max_size=200).map(encoded))
def test_any_bytes(read: Reader, data: bytes) -> None:
    survives(read, data)


@FUZZ
@given(st.data())
def test_any_edit_of_a_good_file(read: Reader, data: st.DataObject) -> None:
    text = SMALL
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        gone = data.draw(st.integers(0, 12))
        text = text[:at] + data.draw(PIECES | st.text(max_size=4)) + text[at + gone :]
    survives(read, encoded(text))


LEAVES = st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.integers()
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@FUZZ
@given(st.data())
def test_any_value_in_any_place(read: Reader, data: st.DataObject) -> None:
    import yaml

    document = yaml.load(SMALL, Loader=yaml.BaseLoader)
    place, keys = document, []
    while isinstance(place, (dict, list)) and place:
        keys.append((place, data.draw(st.sampled_from([*range(len(place))]))))
        holder, index = keys[-1]
        key = list(holder)[index] if isinstance(holder, dict) else index
        place = holder[key]
        if data.draw(st.booleans()):
            holder[key] = data.draw(TREES)
            break
    survives(read, json.dumps(document))
