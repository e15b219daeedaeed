"""A mapping of a YAML file, read key by key; missing and wrong values are noted as faults."""

from __future__ import annotations

from collections.abc import Callable

from images.inputs.matrix.yaml_nodes import Faults, Mapping, Node, Scalar, Sequence, kind
from images.util.suggest import nearest

Rule = Callable[[str], "str | None"]


class Table:
    """A mapping with known keys.

    Args:
        node: the node in the file; anything but a mapping is a fault, and treated as empty.
        what: its name in messages, e.g. `a target`.
        known: the keys that it may have.
        faults: the collection that faults are added to.
        unknown: a rule that may explain more about an unknown key than "unknown".
    """

    def __init__(
        self,
        node: Node,
        what: str,
        known: tuple[str, ...],
        faults: Faults,
        unknown: Rule = lambda _: None,
    ) -> None:
        self.line = node.line
        self.faults = faults
        self._what = what
        self._usable = isinstance(node, Mapping)
        self._node = node if isinstance(node, Mapping) else Mapping({}, {}, node.line)
        if not self._usable:
            faults.add(node.line, f"{what} must be a mapping, not {kind(node)}")
        for key in self._node.entries:
            if key not in known:
                fault = unknown(key) or f"unknown key {key!r} in {what}{nearest(key, known)}"
                faults.add(self.line_of(key), fault)

    def __contains__(self, key: str) -> bool:
        return key in self._node.entries

    def line_of(self, key: str) -> int:
        """Return the line of a key, or of the mapping if it lacks the key."""
        return self._node.key_lines.get(key, self.line)

    def fault(self, key: str, message: str) -> None:
        """Note a fault of a key's value."""
        self.faults.add(self.line_of(key), f"{key}: {message}")

    def get(self, key: str, *, required: bool = True) -> Node | None:
        """Return the value of a key, or None; a missing required one is noted."""
        node: Node | None = self._node.entries.get(key)
        if node is None and required and self._usable:
            self.faults.add(self.line, f"{self._what} has no {key!r}")
        return node

    def text(
        self, key: str, rule: Rule = lambda _: None, *, required: bool = True, empty: bool = False
    ) -> str:
        """Return the text of a key if the rule accepts it, else "" with the fault noted."""
        node = self.get(key, required=required)
        if node is None:
            return ""
        if not isinstance(node, Scalar):
            self.fault(key, f"must be text, not {kind(node)}")
        elif node.null or not (node.text.strip() or empty):
            self.fault(key, 'must not be empty (an empty text is written "")' if empty else "empty")
        elif wrong := rule(node.text):
            self.fault(key, wrong)
        else:
            return node.text
        return ""

    def items(self, key: str) -> tuple[Node, ...]:
        """Return the items of a list; none if the key is missing."""
        node = self.get(key, required=False)
        if isinstance(node, Sequence):
            return node.items
        if node is not None:
            self.fault(key, f"must be a list, not {kind(node)}")
        return ()

    def texts(self, key: str, rule: Rule) -> tuple[str, ...]:
        """Return the items of a list of texts that the rule accepts; others are noted."""
        good = []
        for node in self.items(key):
            if not isinstance(node, Scalar) or node.null:
                self.faults.add(node.line, f"{key}: must be text, not {kind(node)}")
            elif wrong := rule(node.text):
                self.faults.add(node.line, f"{key}: {wrong}")
            else:
                good.append(node.text)
        return tuple(good)

    def mapping(self, key: str) -> dict[str, Node]:
        """Return the entries of a mapping; none if the key is missing."""
        node = self.get(key, required=False)
        if isinstance(node, Mapping):
            return node.entries
        if node is not None:
            self.fault(key, f"must be a mapping, not {kind(node)}")
        return {}
