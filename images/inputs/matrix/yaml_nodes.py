"""YAML as text with line numbers: no types are guessed, so `torch: 2.10` stays `2.10`.

Only mappings, lists and scalars are read. Anchors, aliases and tags are refused, and size and depth
are bounded, so that no input exhausts the reader. Each fault is noted with its line, and only
`MatrixError` is raised.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from images.errors import MatrixError

MAX_BYTES = 1_000_000
_MAX_DEPTH = 12
_LONGEST = 1000  # characters of a message
_CORE = "tag:yaml.org,2002:"
_CORE_TAGS = {_CORE + name for name in ("str", "int", "float", "bool", "null", "seq", "map")}
_NULLS = {"", "~", "null", "Null", "NULL"}


class Scalar(NamedTuple):
    """Text as written; `null` if it is empty or one of YAML's forms of null."""

    text: str
    line: int
    null: bool = False


class Sequence(NamedTuple):
    """A list."""

    items: tuple[Any, ...]  # of Node: mypy cannot follow the recursion through NamedTuple
    line: int


class Mapping(NamedTuple):
    """A mapping with the lines of its keys; the first value of a repeated key is used."""

    entries: dict[str, Any]  # of Node
    key_lines: dict[str, int]
    line: int


Node = Scalar | Sequence | Mapping


class Faults:
    """The faults of one file, to be reported together, without repetition."""

    def __init__(self, path: Path) -> None:
        self._name = _display(path)
        self._found: dict[tuple[int, str], None] = {}

    def add(self, line: int, message: str) -> None:
        """Note a fault on a line; line 0 is the file as a whole."""
        if len(message) > _LONGEST:  # because of text that it quotes
            message = f"{message[: _LONGEST // 2]} … {message[-_LONGEST // 2 :]}"
        self._found[line, message] = None

    def stop(self) -> None:
        """Raise MatrixError with all faults, if there are any."""
        if self._found:
            raise self._error()

    def fail(self, line: int, message: str) -> NoReturn:
        """Raise MatrixError with all faults so far and this one; reading cannot go on."""
        self.add(line, message)
        raise self._error()

    def _error(self) -> MatrixError:
        return MatrixError(
            "\n".join(
                f"{self._name}:{line}: {message}" if line else f"{self._name}: {message}"
                for line, message in sorted(self._found)
            )
        )


def kind(node: Node) -> str:
    """Return the kind of a node, for messages."""
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    return "empty" if node.null else f"{node.text!r}"


def read(path: Path, faults: Faults) -> Node:
    """Read the one document of a YAML file.

    Raises:
        MatrixError: there is nothing to read, or it cannot be read to its end.
    """
    text = _read_text(path, faults)
    import yaml  # 12 ms, for those who read a matrix alone

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(faults).build(yaml.parse(text, Loader=loader))
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # ValueError and OverflowError: PyYAML's own chr() of an escape such as "\UFFFFFFFF".
        line = _line_of(error, text)
        faults.fail(line, f"not valid YAML: {_problem(error, text, line)}")


def _display(path: Path) -> str:
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _read_text(path: Path, faults: Faults) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        faults.fail(0, "no such file")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        faults.fail(0, f"cannot be read: {getattr(error, 'strerror', None) or error}")
    if len(data) > MAX_BYTES:
        faults.fail(0, f"larger than {MAX_BYTES} bytes: not a matrix")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        faults.fail(data.count(b"\n", 0, error.start) + 1, "not valid UTF-8")


def _line_of(error: Exception, text: str) -> int:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        return int(mark.line) + 1
    character = getattr(error, "character", None)  # a reader's error: the first one of its kind
    return text.partition(chr(character))[0].count("\n") + 1 if isinstance(character, int) else 0


def _problem(error: Exception, text: str, line: int) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
    written = (text.split("\n")[line - 1 : line] or [""])[0]
    indent = written[: len(written) - len(written.lstrip())]
    hint = " (indent with spaces, not tabs)" if "\t" in indent else ""
    return " ".join(str(problem).split()) + hint


class _Builder:
    """Builds nodes from parser events; recursion is bounded by `_MAX_DEPTH`."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def build(self, events: Iterator[Any]) -> Node:
        root: Node | None = None
        documents = 0
        for event in events:
            name = type(event).__name__
            if name == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    self._stop(event, "a second document: only one is read")
            elif name not in ("StreamStartEvent", "StreamEndEvent", "DocumentEndEvent"):
                root = self._node(event, events, 0)
        if root is None:
            self._faults.fail(0, "is empty")
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        line = event.start_mark.line + 1
        name = type(event).__name__
        if name == "AliasEvent" or event.anchor is not None:
            self._stop(event, "anchors and aliases are not allowed: write the value out")
        if event.tag is not None and event.tag not in _CORE_TAGS:
            self._stop(event, f"the tag {event.tag!r} is not allowed")
        if depth > _MAX_DEPTH:
            self._stop(event, f"nested deeper than {_MAX_DEPTH} levels")
        if name == "ScalarEvent":
            return self._scalar(event, line)
        if name == "SequenceStartEvent":
            items = []
            while type(event := next(events)).__name__ != "SequenceEndEvent":
                items.append(self._node(event, events, depth + 1))
            return Sequence(tuple(items), line)
        return self._mapping(events, line, depth)

    def _mapping(self, events: Iterator[Any], line: int, depth: int) -> Mapping:
        node = Mapping({}, {}, line)
        while type(event := next(events)).__name__ != "MappingEndEvent":
            key = self._node(event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            if not isinstance(key, Scalar):
                self._faults.add(key.line, f"a key must be text, not {kind(key)}")
            elif key.text in node.entries:
                first = node.key_lines[key.text]
                self._faults.add(key.line, f"{key.text!r} is here twice: first on line {first}")
            else:
                node.entries[key.text] = value
                node.key_lines[key.text] = key.line
        return node

    def _scalar(self, event: Any, line: int) -> Scalar:
        text: str = event.value
        if not event.style:
            return Scalar(text, line, text in _NULLS)
        if event.style == '"' and any(_is_control(char) for char in text):
            self._faults.add(line, "a control character or half of a surrogate pair in a text")
        return Scalar(text, line)

    def _stop(self, event: Any, message: str) -> NoReturn:
        self._faults.fail(event.start_mark.line + 1, message)


def _is_control(char: str) -> bool:
    code = ord(char)
    return (code < 32 and char not in "\n\t") or 127 <= code < 160 or 0xD800 <= code < 0xE000
