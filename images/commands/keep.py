"""`verify` and `gc`: the store is whole, and holds no more than it must."""

from __future__ import annotations

import argparse

from images import output
from images.commands.common import elsewhere_of, print_json
from images.errors import IntegrityError
from images.progress import Progress, size


def verify(options: argparse.Namespace) -> int:
    """Hash everything in the store again and follow every reference."""
    from images import store

    source = store.open_store(options.store, create=False)
    progress = Progress()
    with progress.stage("verify", source.size()) as meter:
        faults = source.verify(meter.advance)
    elsewhere = elsewhere_of(source)
    if options.json:
        print_json({"layout": str(source.path), "faults": faults, "elsewhere": sorted(elsewhere)})
    if faults:
        raise IntegrityError(
            f"{source.path}: {len(faults)} faults\n" + "\n".join(f"  {fault}" for fault in faults),
            remedy="python build.py gc --damaged, then build the targets again",
        )
    if not options.json:
        away = f"; {len(elsewhere)} layers lie elsewhere" if elsewhere else ""
        output.result(f"{source.path}: {size(source.size())}, no fault{away}")
    return 0


def gc(options: argparse.Namespace) -> int:
    """Remove from the store what no image in it needs."""
    from images import store

    swept = store.open_store(options.store, create=False).gc(damaged=options.damaged)
    output.result(f"removed {swept.blobs} blobs ({size(swept.bytes)}) and {swept.keys} layer keys")
    return 0
