"""The entries of defaults, rows and flavours, each with its reason and the rows it applies to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from images.inputs.matrix import gpus, rules
from images.inputs.matrix.yaml_nodes import Node, Scalar, kind
from images.inputs.matrix.yaml_table import Table
from images.util.suggest import nearest

KEYS = (
    "requirements",
    "constraints",
    "overrides",
    "sdists",
    "misrecorded",
    "env",
    "exclude_newer",
    "exclude_newer_package",
    "wheels",
    "conflicts",
    "kernels",
    "gpu_code",
    "debug_sections",
    "left_out",
    "budget",
    "gpus",
)

LOCKED = "locked"
"""In an override of a flavour, the placeholder of the version in the engine's lock."""

# The values of placeholders for checks before any row is known: valid versions make valid text.
_SAMPLE = {"sglang": "0.5.2", "torch": "2.8.0", "cuda": "12.8", "cuda_major": "12"}
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]+)\}")
_WHEN = ("sglang", "cuda")


class Entry(NamedTuple):
    """One entry of a list.

    Attributes:
        name: of the variable, package or file; of a conflict or of files that are left out, the
            path; "" for a requirement.
        value: the text, with placeholders; of a package's date, the date; of a wheel, its SHA-256;
            of a conflict, the winner; of GPU code and debug sections, the licence; of files that
            are left out, the distribution.
        build: of an sdist, the requirements of its build; of a conflict, the loser; of kernels, the
            GPUs that they are compiled for.
        why: the reason.
        when: a specifier of the row's SGLang version and one of its CUDA version; "" is any.
        line: its line in the file.
        compiled: of an sdist, whether it has C sources.
    """

    name: str
    value: str
    build: tuple[str, ...]
    why: str
    when: tuple[str, str]
    line: int
    compiled: bool = False

    def applies_to(self, versions: Mapping[str, str]) -> bool:
        """Return whether the entry applies to a row of these versions."""
        if self.when == ("", ""):
            return True
        pairs = zip(self.when, (versions["sglang"], versions["cuda"]), strict=True)
        return all(not spec or rules.matches(spec, version) for spec, version in pairs)

    def filled(self, versions: Mapping[str, str]) -> str:
        """Return the value with a row's versions filled in; `{locked}` stays, for the resolver."""
        if "{" not in self.value:
            return self.value
        return _PLACEHOLDER.sub(lambda found: versions.get(found[1], found[0]), self.value)


class Entries(NamedTuple):
    """All entries of the defaults, of one row or of one flavour; GPUs with the line of each."""

    requirements: tuple[Entry, ...]
    constraints: tuple[Entry, ...]
    overrides: tuple[Entry, ...]
    sdists: tuple[Entry, ...]
    misrecorded: tuple[Entry, ...]
    env: tuple[Entry, ...]
    exclude_newer: tuple[str, str]
    package_dates: tuple[Entry, ...]
    wheels: tuple[Entry, ...]
    conflicts: tuple[Entry, ...]
    kernels: tuple[Entry, ...]
    gpu_code: tuple[Entry, ...]
    debug_sections: tuple[Entry, ...]
    left_out: tuple[Entry, ...]
    budget: tuple[int, str]
    gpus: tuple[tuple[str, int], ...]


def read(table: Table, *, flavour: bool = False) -> Entries:
    """Read and check the entries of defaults, a row or a flavour."""
    dates = table.mapping("exclude_newer_package")
    return Entries(
        tuple(_pin(node, "a requirement", table, plain=True) for node in table.items(KEYS[0])),
        tuple(_pin(node, "a constraint", table) for node in table.items(KEYS[1])),
        tuple(_pin(node, "an override", table, locked=flavour) for node in table.items(KEYS[2])),
        tuple(_sdist(name, node, table) for name, node in table.mapping("sdists").items()),
        tuple(_named(name, node, table) for name, node in table.mapping("misrecorded").items()),
        tuple(_env(node, table) for node in table.items("env")),
        _exclude_newer(table),
        tuple(_package_date(name, node, table) for name, node in dates.items()),
        tuple(_wheel(node, table) for node in table.items("wheels")),
        tuple(_conflict(node, table) for node in table.items("conflicts")),
        tuple(_kernel(name, node, table) for name, node in table.mapping("kernels").items()),
        _licensed("gpu_code", table),
        _licensed("debug_sections", table),
        tuple(_left_out(node, table) for node in table.items("left_out")),
        _budget(table),
        _gpus(table),
    )


def _pin(
    node: Node, what: str, parent: Table, *, plain: bool = False, locked: bool = False
) -> Entry:
    if plain and isinstance(node, Scalar) and not node.null:
        value = _template(node.text, rules.requirement, parent, node.line)
        return Entry("", value, (), "", ("", ""), node.line)
    table = Table(node, what, ("pin", "why", *_WHEN), parent.faults)
    value = table.text("pin")
    if value:
        sample = {**_SAMPLE, LOCKED: "1.0"} if locked else _SAMPLE
        value = _template(value, rules.requirement, table, table.line_of("pin"), sample)
    why = table.text("why", required=not plain)
    return Entry("", value, (), why, _when(table), table.line)


def _sdist(name: str, node: Node, parent: Table) -> Entry:
    if wrong := rules.package_name(name):
        parent.faults.add(node.line, f"sdists: {wrong}")
    table = Table(node, f"the sdist {name!r}", ("build", "compiled", "why", *_WHEN), parent.faults)
    build = table.texts("build", rules.exact)
    table.get("build")
    compiled = table.text("compiled", rules.flag, required=False) == "true"
    return Entry(name, "", build, table.text("why"), _when(table), table.line, compiled)


def _named(name: str, node: Node, parent: Table) -> Entry:
    if wrong := rules.package_name(name):
        parent.faults.add(node.line, f"misrecorded: {wrong}")
    table = Table(node, f"the misrecorded {name!r}", ("why", *_WHEN), parent.faults)
    return Entry(name, "", (), table.text("why"), _when(table), table.line)


def _kernel(name: str, node: Node, parent: Table) -> Entry:
    if wrong := rules.kernel(name):
        parent.faults.add(node.line, f"kernels: {wrong}")
    table = Table(node, f"the kernel {name!r}", ("gpus", "why", *_WHEN), parent.faults)
    meant = table.texts("gpus", gpus.wrong)
    if meant and rules.is_of_flashinfer(name):
        table.fault("gpus", "FlashInfer loads one library on every GPU: it is compiled for all")
    return Entry(name, "", meant, table.text("why"), _when(table), table.line)


def _env(node: Node, parent: Table) -> Entry:
    table = Table(node, "an env default", ("name", "value", "why", *_WHEN), parent.faults)
    name = table.text("name", lambda text: rules.env(text, ""))
    value = table.text("value", empty=True)
    if name and value:
        line = table.line_of("value")
        value = _template(value, lambda text: rules.env(name, text), table, line)
    return Entry(name, value, (), table.text("why"), _when(table), table.line)


def _exclude_newer(parent: Table) -> tuple[str, str]:
    node = parent.get("exclude_newer", required=False)
    if node is None:
        return "", ""
    table = Table(node, "exclude_newer", ("date", "why"), parent.faults)
    date = table.text("date", lambda text: rules.cut_off(text)[0])
    return rules.cut_off(date)[1], table.text("why")


def _package_date(name: str, node: Node, parent: Table) -> Entry:
    if wrong := rules.package_name(name):
        parent.faults.add(node.line, f"exclude_newer_package: {wrong}")
    table = Table(node, f"the date of {name!r}", ("date", "why", *_WHEN), parent.faults)
    date = rules.cut_off(table.text("date", lambda text: rules.cut_off(text)[0]))[1]
    return Entry(name, date, (), table.text("why"), _when(table), table.line)


def _wheel(node: Node, parent: Table) -> Entry:
    table = Table(node, "a custom wheel", ("file", "sha256", "why", *_WHEN), parent.faults)
    file = table.text("file", rules.wheel_file)
    digest = table.text("sha256", rules.sha256)
    return Entry(file, digest, (), table.text("why"), _when(table), table.line)


def _conflict(node: Node, parent: Table) -> Entry:
    table = Table(node, "a conflict", ("path", "winner", "over", "why", *_WHEN), parent.faults)
    path = table.text("path", rules.image_path)
    winner = table.text("winner", rules.winner)
    over = table.text("over", rules.package_name)
    if winner and winner == over:
        table.fault("over", f"{over!r} cannot win over itself")
    return Entry(path, winner, (over,), table.text("why"), _when(table), table.line)


def _licensed(key: str, parent: Table) -> tuple[Entry, ...]:
    """Return the entries of a mapping of distributions whose licence permits a change."""
    return tuple(
        _licensed_entry(key, name, node, parent) for name, node in parent.mapping(key).items()
    )


def _licensed_entry(key: str, name: str, node: Node, parent: Table) -> Entry:
    if wrong := rules.package_name(name):
        parent.faults.add(node.line, f"{key}: {wrong}")
    known = ("licence", "why", *_WHEN)
    table = Table(node, f"the entry of {name!r} in {key}", known, parent.faults)
    licence = table.text("licence", rules.licence)
    return Entry(name, licence, (), table.text("why"), _when(table), table.line)


def _left_out(node: Node, parent: Table) -> Entry:
    known = ("path", "distribution", "why", *_WHEN)
    table = Table(node, "what is left out", known, parent.faults)
    path = table.text("path", rules.image_path)
    distribution = table.text("distribution", rules.package_name)
    return Entry(path, distribution, (), table.text("why"), _when(table), table.line)


def _budget(parent: Table) -> tuple[int, str]:
    node = parent.get("budget", required=False)
    if node is None:
        return 0, ""
    table = Table(node, "budget", ("size", "why"), parent.faults)
    size = table.text("size", lambda text: rules.budget(text)[0])
    return rules.budget(size)[1], table.text("why")


def _gpus(parent: Table) -> tuple[tuple[str, int], ...]:
    """Return the capabilities of a list, or of one text, each with its line."""
    node = parent.get("gpus", required=False)
    if node is None:
        return ()
    items = [node] if isinstance(node, Scalar) else parent.items("gpus")
    texts = [item for item in items if isinstance(item, Scalar) and not item.null]
    found = [(word, item.line) for item in texts for word in gpus.split(item.text)]
    for item in items:
        if not isinstance(item, Scalar):
            parent.faults.add(item.line, f"gpus: must be text, not {kind(item)}")
    if not found:
        parent.fault("gpus", "there are none: without the key the image serves all")
    for number, (word, line) in enumerate(found):
        if fault := gpus.wrong(word):
            parent.faults.add(line, f"gpus: {fault}")
        elif word in [earlier for earlier, _ in found[:number]]:
            parent.faults.add(line, f"gpus: {word!r} is here twice")
    return tuple((word, line) for word, line in found if not gpus.wrong(word))


def _when(table: Table) -> tuple[str, str]:
    sglang, cuda = (table.text(key, rules.specifier, required=False) for key in _WHEN)
    return sglang, cuda


def _template(
    text: str,
    rule: Callable[[str], str | None],
    table: Table,
    line: int,
    sample: Mapping[str, str] = _SAMPLE,
) -> str:
    """Return a template if its filled-in text passes the rule, else "" with the fault noted."""
    unknown = [name for name in _PLACEHOLDER.findall(text) if name not in sample]
    for name in unknown:
        message = f"unknown placeholder '{{{name}}}'{nearest(name, sample)}"
        table.faults.add(line, f"{text!r}: {message}")
    if unknown:
        return ""
    filled = _PLACEHOLDER.sub(lambda found: sample[found[1]], text)
    if wrong := rule(filled):
        table.faults.add(line, wrong if filled == text else f"{text!r}: {wrong}")
        return ""
    return text
