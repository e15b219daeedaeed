"""A kit: all that a machine with a GPU and no network needs to prove images.

A kit is a directory: `kit.json`, `prove.py`, `suite.tar` (the tests and the builder's modules that
they use), `wheels`, and in `bundles/ID` a bundle of each image. A bundle leaves out the layers of
those before it. `evidence` has what tests found in these images before, of images that are not
proven: the program of the kit goes on there.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from images.attest import evidence, evidence_check
from images.errors import EvidenceError, StoreError, UsageError
from images.export.bundle import bundle, delta, planning
from images.export.bundle.bundle import WrittenBundle
from images.export.kit import document
from images.export.kit.document import Kit, KitTarget
from images.inputs.matrix.records import Matrix, Target
from images.oci.image import Image
from images.oci.store.store import Store
from images.repository import ROLL_RUNTIME, ROOT
from images.util.sha256 import of_file

_SUITE = ("build.py", "pyproject.toml", "images", "roll_runtime", "tests")
_PROGRAM = Path(__file__).with_name(document.PROGRAM)


@dataclass(frozen=True, slots=True)
class KitOptions:
    """What a kit is made with.

    Attributes:
        out: a new or empty directory.
        part_size: largest size of a part of a bundle, in bytes.
        have: inventories of the destination.
        wheels: a directory of wheels for the destination's Python; None for none.
        jobs: layers that are compared with inventories at a time.
    """

    out: Path
    part_size: int
    have: Sequence[Path] = ()
    wheels: Path | None = None
    jobs: int = 1


def write(
    matrix: Matrix,
    images: Sequence[tuple[Target, Image]],
    store: Store,
    options: KitOptions,
    progress: Callable[[int], None] = lambda _: None,
) -> list[WrittenBundle]:
    """Write a kit. Its document comes last: without it there is no kit.

    Args:
        matrix: the matrix of the images.
        images: targets and their images, in the order of their bundles.
        store: where their layers are.
        options: what the kit is made with.
        progress: called with the compressed bytes of each layer when it is done.

    Raises:
        UsageError: `out` is not empty, or `wheels` has no wheel.
        IntegrityError: a layer in the store is damaged.
        StoreError: the disk is full or cannot be written.
    """
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise UsageError(
            f"{options.out}: not an empty directory",
            remedy="remove it, or name another one with --out DIR",
        )
    try:
        return _write(matrix, images, store, options, progress)
    except OSError as error:
        raise StoreError(
            f"{options.out}: the kit cannot be written: {error}",
            remedy=f"free some space, remove {options.out}, and run the same command again",
        ) from error


def _write(
    matrix: Matrix,
    images: Sequence[tuple[Target, Image]],
    store: Store,
    options: KitOptions,
    progress: Callable[[int], None],
) -> list[WrittenBundle]:
    options.out.mkdir(parents=True, exist_ok=True)
    wheels = _copy_wheels(options)
    suite = _tar(_suite_files(matrix, [target for target, _ in images]))
    (options.out / document.SUITE).write_bytes(suite)
    shutil.copyfile(_PROGRAM, options.out / document.PROGRAM)
    written = list(_bundles([image for _, image in images], store, options, progress))
    _copy_unfinished_evidence(matrix, images, options.out / document.EVIDENCE)
    kit = Kit(
        tuple(KitTarget(one.id, image.manifest_digest, one.exclude_newer) for one, image in images),
        sha256(suite).hexdigest(),
        _matrix_name(matrix),
        wheels,
    )
    (options.out / document.NAME).write_bytes(document.encode(kit))
    return written


def _bundles(
    images: Sequence[Image], store: Store, options: KitOptions, progress: Callable[[int], None]
) -> Iterator[WrittenBundle]:
    sent: list[str] = []
    for image in images:
        inventory = delta.read_inventories(options.have, sent)
        plan = planning.plan(store, image, inventory, options.jobs)
        out = options.out / document.BUNDLES / image.ref
        out.parent.mkdir(exist_ok=True)
        yield bundle.write(plan, out, options.part_size, progress)
        sent += [layer.blob.digest for layer in image.layers]


def _copy_wheels(options: KitOptions) -> dict[str, str]:
    if options.wheels is None:
        return {}
    found = sorted(options.wheels.glob("*.whl"))
    if not found:
        raise UsageError(
            f"{options.wheels}: no wheels are there",
            remedy=f"pip download -d {options.wheels} --no-deps pytest-testinfra zstandard, for "
            "the Python of the machine with the GPU",
        )
    directory = options.out / document.WHEELS
    directory.mkdir()
    for path in found:
        shutil.copyfile(path, directory / path.name)
    return {path.name: of_file(directory / path.name) for path in found}


def _copy_unfinished_evidence(
    matrix: Matrix, images: Sequence[tuple[Target, Image]], directory: Path
) -> None:
    for target, image in images:
        try:
            found = evidence.read(evidence.path_of(matrix.path, target.id))
        except EvidenceError:  # `list` reports it
            continue
        if found is None or found.image.manifest_digest != image.manifest_digest:
            continue
        judged = evidence_check.judge(found, target.id, image.manifest_digest, target.exclude_newer)
        if not judged.proven:
            directory.mkdir(exist_ok=True)
            evidence.write(directory / f"{target.id}.json", found)


def _matrix_name(matrix: Matrix) -> str:
    inside = matrix.path.absolute().parent == ROOT
    return matrix.path.name if inside else f"matrix/{matrix.path.name}"


def _suite_files(matrix: Matrix, targets: Sequence[Target]) -> dict[str, Path]:
    """Return the files of the suite by their names in it."""
    found = {str(path.relative_to(ROOT)): path for name in _SUITE for path in _below(ROOT / name)}
    name = _matrix_name(matrix)
    found[name] = matrix.path
    for directory in {matrix.lock_path(target.lock_id).parent for target in targets}:
        for path in directory.glob("*.txt"):
            beside = path.absolute().relative_to(matrix.path.absolute().parent)
            found[str(Path(name).parent / beside)] = path
    return found


def _below(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for child in path.iterdir():
        # What Python, pip and editors leave is not part of the suite.
        made = child.name == "__pycache__" or child == ROLL_RUNTIME / "build"
        if not (made or child.name.endswith(".egg-info") or child.name.startswith(".")):
            yield from _below(child)


def _tar(files: dict[str, Path]) -> bytes:
    """Return an archive of files, the same bytes for the same files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in sorted(files.items()):
            content = path.read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()
