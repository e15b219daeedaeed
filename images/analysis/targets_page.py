"""docs/targets.md, written from the matrix, its locks and the evidence.

`python -m images.analysis.targets_page > docs/targets.md` renews it; a test fails when it differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise

from images.attest import evidence, verdict
from images.inputs.lock import target_lock
from images.inputs.lock.artifact import Artifact
from images.inputs.matrix.load import load
from images.inputs.matrix.records import Matrix, Target
from images.repository import ROOT
from images.util import output
from images.util.progress import size

Files = Mapping[str, Artifact]
"""The locked files of a target by their digests."""

_MEASURED = re.compile(r"([0-9.]+ GB) as locked")
_HEAD = """\
# Targets

<!-- Written by `python -m images.analysis.targets_page > docs/targets.md`. -->

Each target is one release of SGLang with the torch that it asks for. Which one to take:

- **A ROLL job**: an image `ID-roll` that is proven with a commit of ROLL, below: ROLL itself was
  run in it on a GPU ([roll.md](roll.md)). SGLang before 0.5.2 lacks what ROLL's colocated weight
  update imports ([read, not run](roll.md#what-roll-itself-gets-wrong)).
- **Blackwell** (compute capability 10.0 to 12.1): a target of CUDA 13. Some lack
  [ready-made kernels](matrix.md#nothing-is-downloaded-at-run-time).
- **Otherwise** the SGLang that your code asks for.
- **Less to pull**: `build --gpu 9.0` makes an image for Hopper alone ([gpu-code.md](gpu-code.md)).

"""
_TABLE = """\
## All targets

*Wheels* are as published; *image* is its size in a registry. Below `-roll` is the number of
packages of a second image, `ID-roll`, with the same versions of the engine and all that a ROLL
job imports. *Proven* is the digest, GPU and day of `evidence/`; `python build.py list` reports
whether the image in your store is that one.

| target | SGLang | torch | CUDA | GPUs | packages | wheels | image | proven | `-roll` | proven |
|---|---|---|---|---|---|---|---|---|---|---|
"""
_MOVES = """\

## What an upgrade costs

From a release to the next: the wheels that a node with the one lacks of the other, as they are
published. Of images a node pulls less, where code for other GPUs is left out. For two images that
are built, `python build.py diff ID ID` has the exact bytes.

"""
_UPGRADES = """\

Releases on one torch share torch's stack.

| from | to | torch | lacking | of |
|---|---|---|---|---|
"""


def text(matrix: Matrix) -> str:
    """Return the text of the page.

    Args:
        matrix: with current locks.

    Raises:
        LockError: a lock is missing or stale.
    """
    rows = [target for target in matrix.targets if not target.flavour]
    files = {target.id: _files(matrix, target) for target in matrix.targets}
    table = "".join(_row(matrix, target, files) for target in rows)
    moves = list(pairwise(rows))
    lacking = {(a.id, b.id): _lacking(files[a.id], files[b.id]) for a, b in moves}
    picture = "\n".join(_picture(rows, lacking))
    upgrades = "".join(_move(a, b, lacking[a.id, b.id], files[b.id]) for a, b in moves)
    diagram = f"```mermaid\n{picture}\n```\n"
    return f"{_HEAD}{_TABLE}{table}{_MOVES}{diagram}{_UPGRADES}{upgrades}"


def _files(matrix: Matrix, target: Target) -> Files:
    lock = target_lock.read(matrix, target)
    return {item.artifact.sha256: item.artifact for item in lock.distributions}


def _lacking(have: Files, want: Files) -> int:
    return sum(file.size for digest, file in want.items() if digest not in have)


def _row(matrix: Matrix, target: Target, files: Mapping[str, Files]) -> str:
    own, flavour = files[target.id], files.get(f"{target.id}-roll")
    cells = (
        f"`{target.id}`",
        target.sglang,
        target.torch,
        target.cuda,
        f"{target.gpus[0]} to {target.gpus[-1]}",
        str(len(own)),
        size(_whole(own)),
        measured(target),
        _proof(matrix, target.id),
        str(len(flavour)) if flavour else "-",
        _proof(matrix, f"{target.id}-roll") if flavour else "-",
    )
    return f"| {' | '.join(cells)} |\n"


def _whole(files: Files) -> int:
    return sum(file.size for file in files.values())


def measured(target: Target) -> str:
    """Return the size of a target's image, by the reason of its budget."""
    found = _MEASURED.match(target.budget.why) if target.budget else None
    return found[1] if found else "not measured"


def _proof(matrix: Matrix, name: str) -> str:
    found = evidence.read(evidence.path_of(matrix.path, name))
    return verdict.judge_results(found, name, None).text


def _picture(rows: Sequence[Target], lacking: Mapping[tuple[str, str], int]) -> Iterator[str]:
    """Yield the lines of a graph: a box for each torch, an arrow for each upgrade."""
    yield "flowchart LR"
    for (torch, cuda), group in groupby(rows, key=lambda target: (target.torch, target.cuda)):
        yield f'  subgraph "torch {torch}, CUDA {cuda}"'
        for target in group:
            yield f'    {_node(target.id)}["{target.sglang}<br/>{measured(target)}"]'
        yield "  end"
    for (older, newer), number in lacking.items():
        yield f"  {_node(older)} -->|{size(number)}| {_node(newer)}"


def _node(name: str) -> str:
    return name.partition("-")[2]


def _move(older: Target, newer: Target, number: int, files: Files) -> str:
    whole = _whole(files)
    same = "the same" if older.torch == newer.torch else f"{older.torch} to {newer.torch}"
    part = f"{size(whole)} ({100 * number // whole} %)"
    return f"| `{older.id}` | `{newer.id}` | {same} | {size(number)} | {part} |\n"


if __name__ == "__main__":
    output.result(text(load(ROOT / "matrix.yaml")), end="")
