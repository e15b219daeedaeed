"""`verify` and `gc`: faults of the store, and what it no longer needs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from images.commands.arguments import Command, Parser
from images.commands.options import add_json
from images.commands.report.printing import print_json
from images.commands.selection import remote_locations
from images.errors import IntegrityError, StoreError
from images.util import output
from images.util.progress import Progress, size

if TYPE_CHECKING:
    from images.oci.store.store import Store


def verify(options: argparse.Namespace) -> int:
    """Hash every blob of the store and follow every reference."""
    from images.oci.store import maintenance, store

    source = store.open_store(options.store, create=False)
    progress = Progress()
    with progress.stage("verify", source.blobs.size()) as meter:
        faults = maintenance.verify(source, meter.advance)
    elsewhere = remote_locations(source)
    notes = _notes(source)
    if options.json:
        print_json(
            {
                "layout": str(source.path),
                "faults": faults,
                "elsewhere": sorted(elsewhere),
                "notes": notes,
            }
        )
    if faults:
        raise IntegrityError(
            f"{source.path}: {len(faults)} faults\n" + "\n".join(f"  {fault}" for fault in faults),
            remedy="python build.py gc --damaged, then build the targets again",
        )
    if not options.json:
        away = f"; {len(elsewhere)} layers are in a registry only" if elsewhere else ""
        output.result(f"{source.path}: {size(source.blobs.size())}, no fault{away}")
    return 0


VERIFY = Command("verify", verify, add_json)


def _add_gc_options(parser: Parser) -> None:
    parser.add_argument(
        "--damaged",
        action="store_true",
        help="hash all blobs first, and remove damaged ones as well",
    )


def gc(options: argparse.Namespace) -> int:
    """Remove from the store what none of its images needs."""
    from images.oci.store import maintenance, store

    source = store.open_store(options.store, create=False)
    removed = maintenance.gc(source, damaged=options.damaged)
    output.result(
        f"removed {removed.blobs} blobs ({size(removed.bytes)}) and {removed.keys} layer keys"
    )
    _notes(source)
    if removed.unread:
        output.message(
            "note: all else was kept: index.json lists blobs that cannot be read, and what they "
            "need is unknown:\n  "
            + "\n  ".join(removed.unread)
            + "\n  python build.py verify names "
            "their images: rebuild those, or remove others from index.json; then run gc again"
        )
    return 0


GC = Command("gc", gc, _add_gc_options)


def _notes(source: Store) -> list[str]:
    """Report on standard error what the store contains and this builder does not understand."""
    try:
        notes = source.index.notes()
    except StoreError:  # of the index: `verify` lists it among the faults
        return []
    for note in notes:
        output.message(f"note: {note}")
    return notes
