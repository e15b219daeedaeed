#!/usr/bin/env python3
"""Build container images of SGLang rollout workers for ROLL from matrix.yaml.

This file is the command line: it joins the stages in `images/`, and it alone prints results and
exits.
"""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from images.errors import (
    BuildError,
    EvidenceError,
    IntegrityError,
    LockError,
    StoreError,
    UsageError,
)
from images.progress import Progress, size

if TYPE_CHECKING:
    from images.base_source import Place as BasePlace
    from images.builder import Made, Settings
    from images.cache_use import CacheFrom, Filled
    from images.foundation import Inputs
    from images.image import Image
    from images.layer import Compression
    from images.matrix import Matrix, Target
    from images.mirror import Mirror
    from images.remote import Place
    from images.store import Store

HERE = Path(__file__).resolve().parent
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0].startswith("-") and given[0] not in ("-h", "--help"):
        given.insert(0, "build")
    options = parser().parse_args(given)
    try:
        code: int = options.run(options)
        return code
    except BuildError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.remedy:
            print(f"mend it: {error.remedy}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept, the same command goes on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away; Python would complain once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # The last resort, for places that no stage answers for.
        print(f"error: {error}", file=sys.stderr)
        return StoreError.exit_code if error.errno == errno.ENOSPC else BuildError.exit_code


# -- commands --------------------------------------------------------------------------------------


def build(options: argparse.Namespace) -> int:
    """Build images into the store."""
    from images import (
        assemble,
        attest,
        base,
        budget,
        builder,
        foundation,
        lockfile,
        report,
        store,
        toolkit,
    )
    from images.provenance import Build

    matrix, targets = _chosen(options)
    # Every lock is read before anything is made: a stale one must not surface after an hour.
    inputs = _inputs(matrix, targets, options.compression)
    settings = builder.Settings(
        store.open_store(options.store),
        options.cache,
        options.compression,
        options.jobs,
        options.debian_mirror,
        _fetch_command(options) if options.offline else "",
    )
    documents = []
    cache_from, cache_to = _caches(options)
    with settings.store.building():
        # And every own base is held against its target, for the same reason.
        place = _base_place(options, settings.store, offline=options.offline)
        for one in inputs:
            if one.target.base:
                foundation.ready(one, place, settings.store, Progress())
        for one in inputs:
            target, progress = one.target, Progress()
            started = datetime.now(timezone.utc)
            with progress.timed("total"):
                ground, recipes = foundation.ready(one, place, settings.store, progress)
                look = cache_from.look if cache_from else None
                ours = builder.make(recipes, one.debs, settings, progress, look)
                made = [*(foundation.put(ground, settings) if ground else ()), *ours]
                image = assemble.assemble(
                    target,
                    lockfile.digest_of_file(matrix.lock_path(target.id)),
                    [item.layer for item in made],
                    ground.image if ground else None,
                )
                budget.check(target, image, settings.store)
                settings.store.save(image)
                reused = [item.reused for item in made]
                shared = (base.LOCK, toolkit.lock_path(target.toolkit))
                attest.complete(
                    settings.store,
                    image,
                    one.materials(ground),
                    Build(
                        HERE,
                        (matrix.path, matrix.lock_path(target.id), *shared),
                        {"target": target.id, "compression": options.compression},
                        started,
                        datetime.now(timezone.utc),
                        reused.count(False),
                        reused.count(True),
                        os.environ,
                    ),
                )
                filled = _fill(settings, ours, cache_to, progress) if cache_to else None
            elsewhere = _elsewhere(settings.store)
            path = settings.store.path
            documents.append(report.image_document(image, path, reused, elsewhere))
            summary = report.build_summary(image, reused, progress.seconds, path, elsewhere, filled)
            print(summary, file=sys.stderr if options.json else sys.stdout)
    if options.json:
        _print_json(documents[0] if len(documents) == 1 else {"images": documents})
    return 0


def fetch(options: argparse.Namespace) -> int:
    """Bring all that builds need into the download cache: they then need no network."""
    from images import foundation, prefetch, report

    looking = options.check or options.paths_only
    place = _base_place(options, offline=looking)
    wanted = {
        one.target.id: foundation.wanted(one, place, Progress(), bring=not looking)
        for one in _inputs(*_chosen(options))
    }
    if options.paths_only:
        files = dict.fromkeys(file for needs in wanted.values() for file in needs.artifacts)
        print("\n".join(f"{file.sha256}/{file.filename}" for file in files))
        return 0
    outcomes = {}
    for target, needs in wanted.items():
        if options.check:
            outcomes[target] = prefetch.look(needs, options.cache, options.jobs, Progress())
        else:
            outcomes[target] = prefetch.fill(
                needs, options.cache, options.debian_mirror, options.jobs, Progress()
            )
    summary = f"{report.fetch_summary(outcomes)}\n{options.cache}"
    print(summary, file=sys.stderr if options.json else sys.stdout)
    if options.json:
        documents = [report.fetch_document(*item) for item in outcomes.items()]
        _print_json(documents[0] if len(documents) == 1 else {"targets": documents})
    if error := prefetch.failure(outcomes, _fetch_command(options)):
        raise error
    return 0


def _inputs(
    matrix: Matrix, targets: Sequence[Target], compression: Compression = "zstd"
) -> list[Inputs]:
    """The locks of targets, all read and checked."""
    from images import base, lock, toolkit
    from images.foundation import Inputs

    debs = base.locked()
    tools = {target.toolkit: toolkit.locked(target.toolkit) for target in targets}
    return [
        Inputs(target, lock.read(matrix, target), debs, tools[target.toolkit], compression)
        for target in targets
    ]


def _base_place(
    options: argparse.Namespace, store: Store | None = None, *, offline: bool
) -> BasePlace:
    """Where own bases are looked for: the cache, the store if one is given, and the network."""
    from images.base_source import Place

    place = Place(
        options.cache,
        options.matrix.absolute(),
        options.plain_http,
        _fetch_command(options) if offline else "",
    )
    return dataclasses.replace(place, has=store.has) if store else place


def _fetch_command(options: argparse.Namespace) -> str:
    """The command that fetches what the builds of these options need."""
    from images.options import default_cache

    command = ["python", "build.py", "fetch"]
    command += ["--all"] if options.all else []
    for target in dict.fromkeys(options.target):
        command += ["--target", target]
    if options.cache != default_cache():
        command += ["--cache", str(options.cache)]
    command += ["--plain-http"] if options.plain_http else []
    if options.matrix != HERE / "matrix.yaml":
        command += ["--matrix", str(options.matrix)]
    return shlex.join(command)


def _caches(options: argparse.Namespace) -> tuple[CacheFrom | None, Place | None]:
    """The caches that a build reads and fills; without them no code for registries is loaded."""
    if not (options.cache_from or options.cache_to):
        return None, None
    if options.offline:
        raise UsageError("--offline touches no network, and a shared cache lies in a registry")
    from images import cache_use

    source, target = (
        cache_use.place(text, plain_http=options.plain_http) if text else None
        for text in (options.cache_from, options.cache_to)
    )
    say = partial(print, file=sys.stderr)
    return cache_use.CacheFrom(source, say) if source else None, target


def _fill(settings: Settings, made: Sequence[Made], cache_to: Place, progress: Progress) -> Filled:
    from images import cache_use
    from images.options import UPLOADS

    return cache_use.fill(settings.store, made, cache_to, jobs=UPLOADS, progress=progress)


def list_targets(options: argparse.Namespace) -> int:
    """List what can be built, and what has been."""
    from images import lock, report
    from images.lockfile import is_locked

    matrix = _matrix(options)
    here = _store_if_there(options)
    built = here.images() if here else {}
    rows = [
        {
            "target": target.id,
            "sglang": target.sglang,
            "torch": target.torch,
            "cuda": target.cuda,
            "locked": is_locked(matrix.lock_path(target.id), lock.inputs_of(target)),
            "built": built.get(target.id),
            **_proof(options.matrix, target.id, built.get(target.id)),
        }
        for target in matrix.targets
    ]
    if options.json:
        _print_json({"targets": rows})
        return 0
    head = ("TARGET", "SGLANG", "TORCH", "CUDA", "LOCK", "IN THE STORE", "PROVEN")
    print(report.table([head, *(_list_row(row) for row in rows)]))
    return 0


def _list_row(row: dict[str, Any]) -> tuple[str, ...]:
    built = row["built"][:19] if row["built"] else "no"
    locked = "yes" if row["locked"] else "stale or missing"
    versions = (row["sglang"], row["torch"], row["cuda"])
    return (row["target"], *versions, locked, built, row["evidence"])


def _proof(matrix: Path, target: str, built: str | None) -> dict[str, Any]:
    """Whether the image in the store is proven on a GPU, and the words for it."""
    from images import evidence

    try:
        found = evidence.judge(evidence.read(evidence.path_of(matrix, target)), target, built)
    except EvidenceError:
        return {"proven": False, "evidence": "no (the evidence cannot be read)"}
    return {"proven": found.proven, "evidence": found.text}


def lock_targets(options: argparse.Namespace) -> int:
    """Make the locks, or check that they are those of the sources."""
    from images import lock, lockfile, mirror

    matrix = _matrix(options)
    named = bool(options.target)
    targets = [matrix.target(name) for name in options.target] if named else matrix.targets
    if options.check:
        return _check_locks(matrix, targets)
    if not options.base_only:
        for target in targets:
            changed = lock.make(matrix, target)
            print(f"{matrix.lock_path(target.id)}: {'locked' if changed else 'unchanged'}")
    if options.base_only or not named:
        where = mirror.find(options.debian_mirror)
        for shared in _shared_locks(matrix):
            if not options.base_only and _reads(shared.read):
                print(f"{shared.path}: up to date ({shared.name}; newest packages: lock --base)")
                continue
            lockfile.write(shared.path, shared.make(where))
            print(f"{shared.path}: locked")
    return 0


class _SharedLock(NamedTuple):
    """A lock of what several targets have in common."""

    name: str
    path: Path
    make: Callable[[Mirror], str]
    read: Callable[[], object]


def _shared_locks(matrix: Matrix) -> list[_SharedLock]:
    from images import base, toolkit

    compilers = [
        _SharedLock(
            f"CUDA compiler {version}",
            toolkit.lock_path(version),
            partial(toolkit.lock, version),
            partial(toolkit.locked, version),
        )
        for version in matrix.toolkits
    ]
    return [_SharedLock("base", base.LOCK, base.lock, base.locked), *compilers]


def _check_locks(matrix: Matrix, targets: Sequence[Target]) -> int:
    from images import lock

    faults: list[LockError] = []
    checks = [shared.read for shared in _shared_locks(matrix)]
    checks += [partial(lock.read, matrix, target) for target in targets]
    for check in checks:
        try:
            check()
        except LockError as error:
            faults.append(error)
    if faults:
        raise LockError(
            "\n".join(fault.message for fault in faults),
            remedy=" && ".join(dict.fromkeys(fault.remedy for fault in faults if fault.remedy)),
        )
    print(f"{len(checks)} locks are those of their inputs")
    return 0


def _reads(read: Callable[[], object]) -> bool:
    try:
        read()
    except LockError:
        return False
    return True


def load(options: argparse.Namespace) -> int:
    """Give images to the Docker daemon."""
    from images import docker, store

    _, targets = _chosen(options)
    source = store.open_store(options.store, create=False)
    documents = []
    for target in targets:
        image = source.load(target.id)
        tags = options.tag or [f"roll-sglang:{target.id}"]
        progress = Progress()
        _complete(source, image, progress)
        loaded = docker.load(source, image, tags, progress=progress)
        documents.append({"target": target.id, "tags": tags, "id": loaded.id})
        print(f"{', '.join(tags)}: {loaded.describe()}", file=sys.stderr)
    if options.json:
        _print_json(documents[0] if len(documents) == 1 else {"images": documents})
    return 0


def bundle(options: argparse.Namespace) -> int:
    """Write an image as part files with their own unpacker, for a machine without a registry."""
    from images import bundle, held, report, store

    source = store.open_store(options.store, create=False)
    image = source.load(options.target)
    bundle.check(image)
    layers = source.layers_of(options.since) if options.since else ()
    known = held.held(options.have, layers)
    progress = Progress()
    _complete(source, image, progress)
    if known.sizes:
        with progress.stage("compare", image.size) as meter:
            plans = bundle.plan(source, image, known, options.jobs, meter.advance)
    else:
        plans = bundle.plan(source, image, known)
    with progress.stage("bundle", image.size) as meter:
        made = bundle.write(
            source, image, options.out, options.part_size, known, plans, meter.advance
        )
    print(report.bundle_summary(made), file=sys.stderr)
    if options.json:
        _print_json(report.bundle_document(made))
    return 0


def push(options: argparse.Namespace) -> int:
    """Push images to a registry, without Docker."""
    from images import push, reference, registry, report, store

    _, targets = _chosen(options)
    repository, tag = reference.parse(options.to)
    if tag and len(targets) > 1:
        raise UsageError(
            f"{options.to}: one tag for {len(targets)} images",
            remedy="leave the tag out: each image gets its target's id as its tag",
        )
    mount_from = [
        reference.repository_name(name, repository.registry) for name in options.mount_from
    ]
    source = store.open_store(options.store, create=False)
    images = [source.load(target.id) for target in targets]
    documents = []
    with (
        source.building(),
        registry.Registry(repository, plain_http=options.plain_http) as connected,
    ):
        for image in images:
            progress = Progress()
            with progress.timed("total"):
                pushed = push.push(
                    source,
                    image,
                    connected,
                    tag or image.ref,
                    referrers=source.attached(image.manifest_digest) if options.attest else (),
                    mount_from=mount_from,
                    jobs=options.jobs,
                    progress=progress,
                )
            documents.append(report.push_document(pushed))
            summary = report.push_summary(pushed, progress.seconds)
            print(summary, file=sys.stderr if options.json else sys.stdout)
    if options.json:
        _print_json(documents[0] if len(documents) == 1 else {"images": documents})
    return 0


def promote(options: argparse.Namespace) -> int:
    """Move a tag in a registry to an image that a GPU has proven."""
    from images import evidence, promote, reference, registry, report

    target = _matrix(options).target(options.target)
    repository, tag = reference.parse(options.to)
    kept = options.evidence or evidence.path_of(options.matrix, target.id)
    chosen = promote.candidate(target.id, options.digest, kept, unproven=options.unproven)
    with registry.Registry(repository, plain_http=options.plain_http) as connected:
        done = promote.promote(chosen, connected, tag or target.id)
    if options.json:
        _print_json(report.promote_document(done))
    else:
        print(report.promote_summary(done))
    return 0


def pull(options: argparse.Namespace) -> int:
    """Fetch the layers of built images that lie in a shared cache."""
    from images import complete, report, store

    _, targets = _chosen(options)
    source = store.open_store(options.store, create=False)
    documents = []
    for image in [source.load(target.id) for target in targets]:
        layers = [layer.blob.digest for layer in image.layers]
        fetched = complete.complete(source, layers, progress=Progress(), jobs=options.jobs)
        documents.append(report.pull_document(image, source.path, fetched))
        summary = report.pull_summary(image, source.path, fetched)
        print(summary, file=sys.stderr if options.json else sys.stdout)
    if options.json:
        _print_json(documents[0] if len(documents) == 1 else {"images": documents})
    return 0


def sbom(options: argparse.Namespace) -> int:
    """Write an image's bill of materials (CycloneDX)."""
    from images import attest

    return _write_document(options, attest.SBOM)


def provenance(options: argparse.Namespace) -> int:
    """Write how an image was made (SLSA provenance, not signed)."""
    from images import attest

    return _write_document(options, attest.PROVENANCE)


def _write_document(options: argparse.Namespace, artifact_type: str) -> int:
    from images import attest, store

    source = store.open_store(options.store, create=False)
    content = attest.find(source, source.load(options.target), artifact_type)
    if options.out:
        options.out.write_bytes(content)
    else:
        print(content.decode())
    return 0


def test(options: argparse.Namespace) -> int:
    """Run the tests of built images: tests/image and tests/gpu."""
    from images import store, testing

    _, targets = _chosen(options)
    if len(targets) > 1 and (options.rootfs or options.evidence):
        raise UsageError("--rootfs and --evidence are of one image: name one --target")
    if options.rootfs and not (options.rootfs / "usr").is_dir():
        raise UsageError(f"{options.rootfs}: no root file system there")
    if options.rootfs and options.backend == "docker":
        raise UsageError("--rootfs is a root file system, and --backend docker takes none")
    how = testing.How(
        options.backend, options.rootfs, options.gpu, options.evidence, tuple(options.pytest)
    )
    source = store.open_store(options.store, create=False)
    for target in targets:
        image = source.load(target.id)  # one error if it is not there, not one for each test
        if not options.rootfs:
            _complete(source, image, Progress())
    for target in targets:
        testing.run(target.id, store=options.store, matrix=options.matrix, how=how)
    return 0


def inspect(options: argparse.Namespace) -> int:
    """Show what an image in the store holds."""
    from images import report, store

    source = store.open_store(options.store, create=False)
    wanted = options.target or sorted(source.images())
    images = [source.load(name) for name in wanted]
    elsewhere = _elsewhere(source)
    if options.json:
        documents = [
            report.image_document(image, source.path, elsewhere=elsewhere) for image in images
        ]
        _print_json(documents[0] if len(options.target) == 1 else {"images": documents})
    else:
        texts = [
            report.inspection(image, source.path, elsewhere, source.attached(image.manifest_digest))
            for image in images
        ]
        print("\n\n".join(texts))
    return 0


def plan(options: argparse.Namespace) -> int:
    """Show the layers that a build would make, and which of them the store has."""
    from images import outline, report_outline

    matrix, targets = _chosen(options)
    here = _store_if_there(options)
    found = [outline.of_target(matrix, one, here, options.compression) for one in targets]
    if options.json:
        documents = [report_outline.plan_document(item) for item in found]
        _print_json(documents[0] if len(documents) == 1 else {"targets": documents})
    else:
        print("\n\n".join(report_outline.plan_text(item) for item in found))
    return 0


def diff(options: argparse.Namespace) -> int:
    """Show what moving from one image to another costs: packages, and bytes to pull."""
    from images import compare, outline, report_outline

    matrix, here = _matrix(options), _store_if_there(options)
    old, new = (
        outline.find(name, matrix, here, options.compression) for name in (options.old, options.new)
    )
    found = compare.compare(old, new, here)
    if options.json:
        _print_json(report_outline.diff_document(found))
    else:
        print(report_outline.diff_text(found))
    return 0


def sizes(options: argparse.Namespace) -> int:
    """Show how large the images are, and how much of them they share."""
    from images import report_outline, sharing

    found = sharing.measure(_matrix(options), _store_if_there(options))
    if options.json:
        _print_json(report_outline.sizes_document(found))
    else:
        print(report_outline.sizes_text(found))
    return 0


def verify(options: argparse.Namespace) -> int:
    """Hash everything in the store again and follow every reference."""
    from images import store

    source = store.open_store(options.store, create=False)
    progress = Progress()
    with progress.stage("verify", source.size()) as meter:
        faults = source.verify(meter.advance)
    elsewhere = _elsewhere(source)
    if options.json:
        _print_json({"layout": str(source.path), "faults": faults, "elsewhere": sorted(elsewhere)})
    if faults:
        raise IntegrityError(
            f"{source.path}: {len(faults)} faults\n" + "\n".join(f"  {fault}" for fault in faults),
            remedy="python build.py gc --damaged, then build the targets again",
        )
    if not options.json:
        away = f"; {len(elsewhere)} layers lie elsewhere" if elsewhere else ""
        print(f"{source.path}: {size(source.size())}, no fault{away}")
    return 0


def gc(options: argparse.Namespace) -> int:
    """Remove from the store what no image in it needs."""
    from images import store

    swept = store.open_store(options.store, create=False).gc(damaged=options.damaged)
    print(f"removed {swept.blobs} blobs ({size(swept.bytes)}) and {swept.keys} layer keys")
    return 0


# -- common to commands ----------------------------------------------------------------------------


def _matrix(options: argparse.Namespace) -> Matrix:
    from images import matrix

    return matrix.load(options.matrix)


def _store_if_there(options: argparse.Namespace) -> Store | None:
    from images import store

    there = (options.store / "oci-layout").is_file()
    return store.open_store(options.store, create=False) if there else None


def _chosen(options: argparse.Namespace) -> tuple[Matrix, list[Target]]:
    matrix = _matrix(options)
    if options.all:
        return matrix, list(matrix.targets)
    return matrix, [matrix.target(name) for name in dict.fromkeys(options.target)]


def _elsewhere(source: Store) -> dict[str, Place]:
    """Where layers lie whose bytes the store does not have, by digest."""
    return {digest: remote.place for digest, remote in source.remotes().items()}


def _complete(source: Store, image: Image, progress: Progress) -> None:
    """Fetch what an image has elsewhere, before its bytes are needed."""
    if source.remotes():
        from images import complete

        complete.complete(source, [layer.blob.digest for layer in image.layers], progress=progress)


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=1))


def parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    from images import options

    return options.parser(HERE, (__doc__ or "").partition("\n")[0], COMMANDS)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "build": build,
    "fetch": fetch,
    "list": list_targets,
    "lock": lock_targets,
    "load": load,
    "bundle": bundle,
    "push": push,
    "promote": promote,
    "pull": pull,
    "sbom": sbom,
    "provenance": provenance,
    "test": test,
    "inspect": inspect,
    "plan": plan,
    "diff": diff,
    "sizes": sizes,
    "verify": verify,
    "gc": gc,
}


if __name__ == "__main__":
    sys.exit(main())
