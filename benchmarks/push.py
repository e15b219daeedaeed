"""Times of pushes of one target to a registry, beside skopeo on the same layout.

    python benchmarks/push.py --target torch280-sglang052 --place /var/tmp/push-bench

Starts a registry (`docker-registry`, its data below --place, removed afterwards) on the loopback
interface for each first push. Measured as whole processes: a first push, a second one of the same
image, one after the top layer changed (as `roll_runtime` does: the locks are the same), a mount
into another repository, and `skopeo copy` of the same layout into an empty registry. That one push
goes through a relay, which counts all bytes on the wire, headers of requests included. The store is
not changed: pushes go from a copy of hard links.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.loopback import registry, relay  # noqa: E402
from benchmarks.processes import Run, timed  # noqa: E402
from images.attest import attach  # noqa: E402
from images.attest.provenance import Build  # noqa: E402
from images.build.prepare import Prepared  # noqa: E402
from images.commands.selection import inputs_of  # noqa: E402
from images.inputs.lock import base_lock, cuda_lock  # noqa: E402
from images.inputs.matrix.load import load  # noqa: E402
from images.inputs.matrix.records import Matrix, Target  # noqa: E402
from images.oci.image import Image, Layer  # noqa: E402
from images.oci.layer import writer  # noqa: E402
from images.oci.layer.entry import of_bytes  # noqa: E402
from images.oci.store.store import Store, open_store  # noqa: E402

NO_DOCUMENTS = "--no-attest"


def pushed(what: str, store: Path, target: str, to: str, *options: str) -> Run:
    """Push as a user does."""
    command = [sys.executable, str(ROOT / "build.py"), "push", "--store", str(store)]
    command += ["--target", target, "--to", to, "--plain-http", "--json"]
    run, output = timed(what, [*command, *options])
    return replace(run, sent=json.loads(output)["bytes_sent"])


def linked(store: Path, place: Path) -> Store:
    """Return a copy of a store that shares its blobs' bytes, and has no record of a push."""
    copy = place / "store"
    ignore = shutil.ignore_patterns("pushed", "tmp", "locks")
    shutil.copytree(store, copy, copy_function=_link, ignore=ignore)
    return open_store(copy)


def _link(source: str, target: str) -> None:
    # Only blobs, which are never written to again: a lock must not be shared with the real store.
    if "/blobs/" in source:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def change_top(store: Store, image: Image, target: Target, matrix: Matrix) -> None:
    """Put an image in whose top layer is another one, of about the same size, as a build would."""
    old = image.layers[-1]
    content = os.urandom(old.blob.size)
    with store.blobs.new_file() as (out, commit):
        blob = writer.write([of_bytes("opt/changed", content)], out, "zstd")
        commit(blob.digest)
    changed = replace(image, layers=(*image.layers[:-1], Layer(old.title, blob)))
    store.save(changed)
    (inputs,) = inputs_of(matrix, [target])
    files = (
        matrix.path,
        matrix.lock_path(target.id),
        base_lock.PATH,
        cuda_lock.path_of(target.toolkit),
    )
    parameters, now = {"target": target.id, "compression": "zstd"}, datetime.now(timezone.utc)
    run = Build(ROOT, files, parameters, now, now, 1, len(image.layers) - 1, os.environ)
    attach.complete(store, changed, Prepared(inputs, inputs.debian_base()).materials, run)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="torch280-sglang052")
    parser.add_argument("--store", type=Path, default=ROOT / "store")
    parser.add_argument(
        "--place", type=Path, required=True, help="on the store's disk, with room for the image"
    )
    options = parser.parse_args()
    target, matrix = options.target, load(ROOT / "matrix.yaml")
    options.place.mkdir(parents=True, exist_ok=True)
    runs = []
    with TemporaryDirectory(prefix="push-", dir=options.place) as work:
        store = linked(options.store.resolve(), Path(work))
        image = store.load(target)
        for item in image.layers:  # or the first to push would be the only one to read the disk
            with store.blobs.path(item.blob.digest).open("rb", buffering=0) as stream:
                while stream.read(1 << 20):
                    pass
        layout = f"oci:{store.path}:{target}"
        with registry(Path(work)) as address:
            skopeo = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false"]
            runs.append(timed("skopeo copy", [*skopeo, layout, f"docker://{address}/a:1"])[0])
            runs.append(timed("skopeo copy again", [*skopeo, layout, f"docker://{address}/a:1"])[0])
        with registry(Path(work)) as address:
            runs.append(pushed("first push", store.path, target, f"{address}/a"))
            runs.append(pushed("again, unchanged", store.path, target, f"{address}/a"))
            runs.append(pushed("to another repository", store.path, target, f"{address}/b"))
            change_top(store, image, matrix.target(target), matrix)
            runs.append(pushed("top layer changed", store.path, target, f"{address}/a"))
            change_top(store, image, matrix.target(target), matrix)
            with relay(address) as counting:
                to = f"{counting.address}/a"
                runs.append(
                    pushed("and again, the image alone", store.path, target, to, NO_DOCUMENTS)
                )
                alone = counting.counted()[1]
                runs.append(pushed("its SBOM and provenance", store.path, target, to))
                documents = counting.counted()[1]
    print(f"{target}: {len(image.layers)} layers, {image.size / 1e9:.2f} GB\n")
    print("| what | seconds | CPU seconds | peak memory, MB | bytes sent |\n|---|---|---|---|---|")
    for run in runs:
        print(run.row())
    print(f"\non the wire: top layer changed {alone:,} bytes, its documents {documents:,}")


if __name__ == "__main__":
    main()
