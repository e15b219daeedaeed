"""Makes Target records of the nodes of matrix.yaml: merges defaults and rows, notes all faults."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from images.inputs import compilers
from images.inputs.matrix import base_reference, gpus, rules, support
from images.inputs.matrix import entries as matrix_entries
from images.inputs.matrix import flavours as matrix_flavours
from images.inputs.matrix.change_rules import LeftOut, Licensed
from images.inputs.matrix.conflict_rules import Rule
from images.inputs.matrix.entries import Entries, Entry
from images.inputs.matrix.flavours import Flavour
from images.inputs.matrix.records import (
    Budget,
    CustomWheel,
    EnvDefault,
    Kernel,
    PackageDate,
    Pin,
    Sdist,
    Target,
)
from images.inputs.matrix.yaml_nodes import Faults, Mapping, Node
from images.inputs.matrix.yaml_table import Table
from images.util.suggest import nearest

_TOP = ("platform", "python", "base", "toolkit", "locks", "flavours", "defaults", "targets")
_DEFAULTS = ("flavours", *matrix_entries.KEYS, "dependencies")
_ROW = ("id", "sglang", "torch", "cuda", "base", "flavours", *matrix_entries.KEYS)


class _Row(NamedTuple):
    """A row before the defaults are merged in; a value with a fault is ""."""

    id: str
    sglang: str
    torch: str
    cuda: str
    own: Entries
    base: tuple[str, str]
    flavours: list[Flavour]
    table: Table

    @property
    def complete(self) -> bool:
        """Whether all versions are present and valid."""
        return bool(self.sglang and self.torch and self.cuda)

    @property
    def versions(self) -> dict[str, str]:
        """The values of the placeholders."""
        major = self.cuda.partition(".")[0]
        return {
            "sglang": self.sglang,
            "torch": self.torch,
            "cuda": self.cuda,
            "cuda_major": major,
        }


class Document:
    """A whole matrix file; its values are valid only if no fault was noted."""

    def __init__(self, root: Node, path: Path, runtime_versions: Path, faults: Faults) -> None:
        top = Table(root, "the file", _TOP, faults, rules.other_platform)
        self._faults = faults
        self._name = path.name
        top.text("platform", rules.platform)
        self.toolkits = _toolkits(top)
        self.python = top.text("python")
        self.suite, self.base = _base(top, required=True)
        self._platform_tag = _platform_tag(top, self.python)
        self.locks = Path(os.path.normpath(path.parent / _locks(top)))
        node = top.get("defaults", required=False) or Mapping({}, {}, top.line)
        defaults = Table(node, "defaults", _DEFAULTS, faults, rules.other_platform)
        self._shared = matrix_entries.read(defaults)
        self._flavours = matrix_flavours.read(top)
        self._shared_flavours = matrix_flavours.named(defaults, self._flavours) or []
        self._dependencies = defaults.text("dependencies", rules.flag, required=False) != "false"
        rows = [self._row(node) for node in top.items("targets")]
        if not rows and top.get("targets") is not None:
            top.fault("targets", "there are none")
        self._check_ids(rows)
        self._check_runtime(rows, runtime_versions)
        complete = [row for row in rows if row.complete]
        for row in complete:
            self._check_cuda(row)
        self.targets = tuple(
            self._target(row, flavour) for row in complete for flavour in (None, *row.flavours)
        )

    def _row(self, node: Node) -> _Row:
        table = Table(node, "a target", _ROW, self._faults, rules.other_platform)
        flavours = matrix_flavours.named(table, self._flavours)
        return _Row(
            id=table.text("id", rules.other_platform),
            sglang=table.text("sglang", rules.version),
            torch=table.text("torch", rules.version),
            cuda=table.text("cuda", rules.cuda),
            own=matrix_entries.read(table),
            base=_base(table, required=False),
            flavours=self._shared_flavours if flavours is None else flavours,
            table=table,
        )

    def _check_ids(self, rows: list[_Row]) -> None:
        first: dict[str, _Row] = {}
        for row in rows:
            expected = rules.target_ids(row.torch, row.sglang) if row.torch and row.sglang else ()
            if row.id in first:
                row.table.fault("id", _twice(row, first[row.id], expected))
            elif row.id:
                first[row.id] = row
            if row.id and expected and row.id not in expected:
                versions = f"torch {row.torch} and sglang {row.sglang}"
                message = f"{row.id!r} does not follow from {versions}: it must be {expected[0]!r}"
                more = f", or {expected[1]!r} beside a row of that id" if expected[1:] else ""
                row.table.fault("id", message + more)
            elif row.id in expected[1:]:
                self._check_short(row, expected[0], rows)

    def _check_short(self, row: _Row, short: str, rows: list[_Row]) -> None:
        """Check that another version of a row's release has the short id: else it is this row's."""
        others = {other.sglang for other in rows if other.id == short}
        if not others:
            row.table.fault("id", f"{row.id!r}: no other row is {short!r}, so it must be {short!r}")
        elif row.sglang in others:
            row.table.fault("id", f"{row.id!r}: {short!r} is of sglang {row.sglang} as well")

    def _check_runtime(self, rows: list[_Row], table: Path) -> None:
        wrong, refused = support.runtime_support(table, [row.sglang for row in rows if row.sglang])
        if wrong:
            self._faults.add(0, wrong)
        for row in rows:
            if row.sglang in refused:
                row.table.fault("sglang", refused[row.sglang])

    def _check_cuda(self, row: _Row) -> None:
        # Only an id that follows from the versions may name a file.
        expected = rules.target_ids(row.torch, row.sglang)
        lock = self.locks / f"{row.id if row.id in expected else expected[0]}.txt"
        built, source = support.torch_cuda(row.torch, lock)
        if built and built != row.cuda:
            message = f"torch {row.torch} is built for CUDA {built} ({source}), not {row.cuda}"
            row.table.fault("cuda", message)
        compiler = self.toolkits.get(row.versions["cuda_major"])
        if compiler is None:
            row.table.fault("cuda", f"no compiler: `toolkit` has none for CUDA {row.cuda}")
        elif wrong := support.compiler_serves(compiler, row.cuda):
            row.table.fault("cuda", wrong)

    def _target(self, row: _Row, flavour: Flavour | None) -> Target:
        versions = {**row.versions, matrix_entries.LOCKED: "{locked}"}
        date, date_why = self._date(row, flavour)
        levels = (self._shared, row.own, *((flavour.own,) if flavour else ()))
        requirements = _pick(row, *(level.requirements for level in levels))
        if not requirements:
            self._faults.add(row.table.line, "a target has no requirements")
        constraints = _pick(row, *(level.constraints for level in levels))
        overrides = _pick(row, *(level.overrides for level in levels))
        sdists = self._pick_by_name(row, *(level.sdists for level in levels))
        misrecorded = self._pick_by_name(row, *(level.misrecorded for level in levels))
        dates = self._pick_by_name(row, *(level.package_dates for level in levels))
        wheels = self._pick_by_name(row, *(level.wheels for level in levels))
        env = self._pick_by_name(row, *(level.env for level in levels))
        conflicts = _pick(row, *(level.conflicts for level in levels))
        kernels = self._kernels(row, *(level.kernels for level in levels))
        gpu_code = self._pick_by_name(row, *(level.gpu_code for level in levels))
        debug = self._pick_by_name(row, *(level.debug_sections for level in levels))
        left_out = _pick(row, *(level.left_out for level in levels))
        served = self._gpus(row, flavour)
        return Target(
            id=f"{row.id}-{flavour.name}" if flavour else row.id,
            sglang=row.sglang,
            torch=row.torch,
            cuda=row.cuda,
            toolkit=self.toolkits.get(versions["cuda_major"], ""),
            python=self.python,
            platform_tag=self._platform_tag,
            requirements=tuple(entry.filled(versions) for entry in requirements),
            constraints=_pins(constraints, versions),
            overrides=_pins(overrides, versions),
            sdists=tuple(Sdist(e.name, e.build, e.why, e.compiled) for e in sorted(sdists)),
            misrecorded=frozenset(entry.name for entry in misrecorded),
            exclude_newer=date,
            exclude_newer_why=date_why,
            dependencies=self._dependencies,
            env=(
                *(EnvDefault(e.name, e.filled(versions), e.why) for e in env),
                *_served_env(served),
            ),
            budget=self._budget(row, flavour),
            line=row.table.line,
            base=self._custom_base(row),
            flavour=flavour.name if flavour else "",
            engine=row.id if flavour else "",
            debian=flavour.debian if flavour else (),
            package_dates=tuple(PackageDate(e.name, e.value, e.why) for e in sorted(dates)),
            wheels=tuple(
                CustomWheel(e.name, e.value, e.why, f"{self._name}:{e.line}")
                for e in sorted(wheels)
            ),
            conflicts=tuple(
                Rule(e.name, e.value, e.build[0], e.why, f"{self._name}:{e.line}")
                for e in conflicts
            ),
            kernels=tuple(Kernel(e.name, e.why, gpus.in_order(e.build)) for e in sorted(kernels)),
            gpu_code=self._licensed(gpu_code),
            debug_sections=self._licensed(debug),
            left_out=tuple(
                LeftOut(e.name, e.value, e.why, f"{self._name}:{e.line}") for e in left_out
            ),
            gpus=served,
        )

    def _date(self, row: _Row, flavour: Flavour | None) -> tuple[str, str]:
        """Return the date and its reason: of the flavour, else the row, else the defaults."""
        if flavour and flavour.own.exclude_newer[0]:
            return flavour.own.exclude_newer
        if "exclude_newer" in row.table:
            return row.own.exclude_newer
        if not self._shared.exclude_newer[0]:
            self._faults.add(row.table.line, "a target has no 'exclude_newer'")
        return self._shared.exclude_newer

    def _budget(self, row: _Row, flavour: Flavour | None) -> Budget | None:
        """Return the budget of an image: that of its row, plus that of its flavour."""
        size, why = row.own.budget if "budget" in row.table else self._shared.budget
        if flavour and size:
            more, its_why = flavour.own.budget
            size, why = size + more, f"{why}; {flavour.name}: {its_why or 'no budget of its own'}"
        return Budget(size, why) if size else None

    def _gpus(self, row: _Row, flavour: Flavour | None) -> tuple[str, ...]:
        """Return the GPUs that an image serves: the flavour's, else the row's, else the defaults'.

        Without any they are those of the compiler. A custom base may have its own compiler, which
        serves others: that is not known here, so its row may name any.
        """
        compiler = self.toolkits.get(row.versions["cuda_major"], "")
        if not compiler:
            return ()
        own = (flavour.own.gpus if flavour else ()) or row.own.gpus or self._shared.gpus
        for gpu, line in own:
            fault = gpus.not_served(gpu, compiler)
            if fault and not self._custom_base(row):
                self._faults.add(line, f"gpus: {row.id}: {fault}")
        return gpus.in_order(gpu for gpu, _ in own) or compilers.BY_VERSION[compiler].gpus

    def _kernels(self, row: _Row, *levels: Iterable[Entry]) -> list[Entry]:
        """Return the kernels for a row; those that its compiler cannot compile are faults."""
        picked = self._pick_by_name(row, *levels)
        compiler = self.toolkits.get(row.versions["cuda_major"], "")
        if compiler and not self._custom_base(row):
            for entry in picked:
                for fault in filter(None, (gpus.not_served(gpu, compiler) for gpu in entry.build)):
                    self._faults.add(entry.line, f"kernels: {entry.name}: {row.id}: {fault}")
        return picked

    def _licensed(self, entries: Iterable[Entry]) -> tuple[Licensed, ...]:
        return tuple(
            Licensed(e.name, e.value, e.why, f"{self._name}:{e.line}") for e in sorted(entries)
        )

    def _custom_base(self, row: _Row) -> str:
        return row.base[1] if "base" in row.table else self.base

    def _pick_by_name(self, row: _Row, *levels: Iterable[Entry]) -> list[Entry]:
        """Return the entries for a row; a later level's replaces an earlier one's of that name."""
        picked: dict[str, Entry] = {}
        versions = row.versions
        for entries in levels:
            here: dict[str, Entry] = {}
            for entry in entries:
                if not entry.applies_to(versions):
                    continue
                if entry.name and entry.name in here:
                    first = f"first on line {here[entry.name].line}"
                    message = f"{entry.name!r} is here twice for {row.id}: {first}"
                    self._faults.add(entry.line, message)
                here[entry.name] = entry
            picked |= here
        return list(picked.values())


def _twice(row: _Row, first: _Row, expected: tuple[str, ...]) -> str:
    """Return the fault of an id that two rows have, with the id that the second may have."""
    message = f"{row.id!r} is here twice: first on line {first.table.line_of('id')}"
    if row.sglang == first.sglang or row.id not in expected[:1] or not expected[1:]:
        return message
    return f"{message}, for sglang {first.sglang}; a row of sglang {row.sglang} is {expected[1]!r}"


def _pick(row: _Row, *levels: Iterable[Entry]) -> list[Entry]:
    """Return the entries for a row, one level after the other."""
    versions = row.versions
    return [entry for entries in levels for entry in entries if entry.applies_to(versions)]


def _served_env(served: tuple[str, ...]) -> list[EnvDefault]:
    """Return the variable that names the served GPUs to roll_runtime."""
    return [EnvDefault(gpus.ENV, " ".join(served), gpus.ENV_WHY)] if served else []


def _pins(entries: Iterable[Entry], versions: dict[str, str]) -> tuple[Pin, ...]:
    return tuple(Pin(entry.filled(versions), entry.why) for entry in entries)


def _locks(top: Table) -> str:
    text = top.text("locks", required=False) or "images/locks"
    if Path(text).is_absolute():
        top.fault("locks", f"{text!r} must be relative to the matrix file")
    return text


def _toolkits(top: Table) -> dict[str, str]:
    """Return the versions of the compilers by CUDA major version; one with a fault is ""."""
    node = top.get("toolkit")
    if node is None:
        return {}
    table = Table(node, "toolkit", compilers.majors(), top.faults, rules.other_platform)
    return {
        major: table.text(major, partial(rules.compiler, major))
        for major in compilers.majors()
        if major in table
    }


def _base(table: Table, *, required: bool) -> tuple[str, str]:
    """Return the suite or the custom base of the file or a row; the other one is ""."""
    node = table.get("base", required=required)
    if node is None:
        return "", ""
    base = Table(node, "base", ("suite", "image"), table.faults)
    if "suite" in base and "image" in base:
        base.fault("image", "either a suite or an image, not both")
    if "image" in base:
        return "", base.text("image", base_reference.wrong)
    return base.text("suite", _suite), ""


def _suite(text: str) -> str | None:
    if text in rules.SUITES:
        return None
    return f"{text!r} is not one of {', '.join(rules.SUITES)}{nearest(text, rules.SUITES)}"


def _platform_tag(top: Table, python: str) -> str:
    """Return the platform that wheels are locked for; a custom base is checked against them."""
    ((suite, (its_python, platform_tag)),) = rules.SUITES.items()
    if python not in ("", its_python):
        top.fault("python", f"{python!r} is not supported: {suite} has {its_python}")
    return platform_tag
