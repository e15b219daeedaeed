"""`propose`: a release of SGLang as a new target."""

from __future__ import annotations

import argparse
import difflib
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from images.commands.arguments import Command, Parser
from images.commands.options import add_cache_location
from images.commands.selection import matrix_of
from images.errors import UsageError
from images.util import atomic_file, output
from images.util.progress import Progress, size

if TYPE_CHECKING:
    from images.inputs.matrix.records import Matrix
    from images.inputs.release.proposal import Proposal
    from images.inputs.release.published import Release


def _add_propose_options(parser: Parser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("release", nargs="?", metavar="sglang==VERSION", help="the release")
    which.add_argument(
        "--newest", action="store_true", help="the newest release; nothing if it is a target"
    )
    add = parser.add_argument
    add("--pre", action="store_true", help="allow a pre-release")
    add(
        "--exclude-newer",
        metavar="DATE",
        help="the cut-off date of the row (default: five days after the release)",
    )
    add("--dry-run", action="store_true", help="print the differences, and write nothing")
    add_cache_location(parser)


def propose(options: argparse.Namespace) -> int:
    """Add a release of SGLang as a target: its row, locks, and lines in roll_runtime."""
    from images.inputs.release import needs, proposal, published
    from images.inputs.release import row as rows

    matrix = matrix_of(options)
    release = _release(options, matrix)
    if release is None:
        return 0
    progress = Progress()
    with progress.stage("fetch", release.artifact.size) as meter:
        wheel = published.download(release, options.cache, meter.advance)
    cut_off = rows.cut_off(
        release.version, release.uploaded, datetime.now(timezone.utc), options.exclude_newer
    )
    with progress.timed("contract"):
        roll_runtime = proposal.supported(release, wheel)
    torch = needs.torch_of(wheel)
    with progress.timed("lock"):
        cuda = needs.cuda_of(torch, _moment(cut_off.text))
        name = rows.new_id(matrix, torch, release.version)
        row = rows.Row(name, release.version, torch, cuda, cut_off)
        made = proposal.make(matrix, row, roll_runtime, options.cache)
    if options.dry_run:
        output.result(_difference(made, matrix), end="")
    else:
        atomic_file.write_all(made.files)
        _renew_page(matrix)
    _report(made, release, matrix, [*roll_runtime.notes], dry_run=options.dry_run)
    return 0


PROPOSE = Command("propose", propose, _add_propose_options)


def _release(options: argparse.Namespace, matrix: Matrix) -> Release | None:
    """Return the release that the options name, or None if the newest is a target."""
    from packaging.version import Version

    from images.inputs.release import published
    from images.inputs.release import row as rows

    if not options.newest:
        version = published.version_of(options.release, pre_releases=options.pre)
        rows.neighbours(matrix, version)  # before the index is asked
        return published.find(version)
    release = published.newest(pre_releases=options.pre)
    known = max((target.sglang for target in matrix.targets), key=Version)
    if Version(release.version) > Version(known):
        return release
    output.result(f"nothing to propose: sglang {known} is a target; the index has no newer one")
    return None


def _renew_page(matrix: Matrix) -> None:
    """Write docs/targets.md anew, if the matrix is the repository's."""
    from images.analysis import targets_page
    from images.inputs.matrix.load import load
    from images.repository import ROOT

    if matrix.path.resolve() == ROOT / "matrix.yaml":
        text = targets_page.text(load(matrix.path))
        atomic_file.write_text(ROOT / "docs" / "targets.md", text)
        output.result("written: docs/targets.md")


def _moment(date: str) -> str:
    from images.inputs.matrix import rules

    wrong, moment = rules.cut_off(date)
    if wrong:
        raise UsageError(wrong)
    return moment


def _difference(made: Proposal, matrix: Matrix) -> str:
    """Return the unified differences of all files but the locks, which are new."""
    lines: list[str] = []
    for path, text in made.files.items():
        if path.parent != matrix.locks:
            before = path.read_text(encoding="utf-8").splitlines(True)
            name = _named(path)
            after = text.splitlines(True)
            lines += difflib.unified_diff(before, after, f"a/{name}", f"b/{name}")
    return "".join(lines)


def _report(
    made: Proposal, release: Release, matrix: Matrix, notes: list[str], *, dry_run: bool
) -> None:
    row = made.row
    count = len(made.lock.distributions)
    weight = size(sum(item.artifact.size for item in made.lock.distributions))
    day = f"{release.uploaded:%Y-%m-%d}"
    output.result(
        f"{row.id}: sglang {row.sglang} of {day}, torch {row.torch}, CUDA {row.cuda}, up to "
        f"{row.cut_off.text}: {count} distributions, {weight}"
    )
    verb = "would write" if dry_run else "written"
    output.result("".join(f"  {verb}: {_named(path)}\n" for path in made.files), end="")
    output.result("to decide and to check:")
    for text in (*made.questions, *_questions(made, matrix), *(f"contract: {n}" for n in notes)):
        output.result(f"  - {text}")
    if not dry_run:
        output.result(f"next: python build.py --target {row.id}")


def _questions(made: Proposal, matrix: Matrix) -> list[str]:
    from images.repository import SGLANG_VERSIONS

    row, found = made.row, []
    if row.cut_off.early:
        found.append("the release is younger than five days: set the date again later, and lock")
    if row.torch not in {target.torch for target in matrix.targets}:
        found.append(f"no other target has torch {row.torch}: is its driver what clusters have?")
    if SGLANG_VERSIONS in made.files:
        found.append(
            "roll_runtime is in every image: all get another digest, and their evidence is renewed"
        )
    found.append("the budget is an estimate: set it from the size that the build prints")
    return found


def _named(path: Path) -> str:
    from images.repository import ROOT

    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
