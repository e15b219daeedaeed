"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path

from images.commands import arguments
from images.commands.arguments import Parser, one_of
from images.oci.descriptor import COMPRESSIONS
from images.util import user_cache


def add_locations(parser: Parser, root: Path) -> None:
    """Add the options that every command has: where the matrix and the store are."""
    add = parser.add_argument
    add(
        "--matrix",
        type=Path,
        default=root / "matrix.yaml",
        help="the matrix (default: %(default)s)",
    )
    add("--store", type=Path, default=root / "store", help="the OCI layout (default: %(default)s)")


def add_targets(parser: Parser) -> None:
    """Add the required choice between some targets and all of them."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--target", action="append", default=[], metavar="ID", help="a target; repeatable"
    )
    which.add_argument("--all", action="store_true", help="every target of the matrix")


def add_gpus(parser: Parser) -> None:
    """Add the option that narrows the targets to some of their GPUs."""
    parser.add_argument(
        "--gpu",
        action="extend",
        type=arguments.capabilities,
        dest="only_gpus",
        metavar="CAPABILITY",
        help="only these GPUs of the target, by compute capability, as in 9.0; repeatable, or "
        "separated by commas. The image is called ID-sm90, and has that name everywhere: "
        "--target ID-sm90",
    )


def add_optional_targets(parser: Parser) -> None:
    """Add an option that restricts a command to some targets."""
    parser.add_argument(
        "--target", action="append", default=[], metavar="ID", help="only this target; repeatable"
    )


def add_jobs(parser: Parser, what: str, default: int | None = None) -> None:
    """Add an option for how much is done at a time.

    Args:
        parser: of the command.
        what: is counted.
        default: the number of CPUs if None.
    """
    shown = "the number of CPUs" if default is None else default
    parser.add_argument(
        "--jobs",
        type=arguments.positive,
        default=default or os.cpu_count() or 1,
        help=f"{what} (default: {shown})",
    )


def add_cache_location(parser: Parser) -> None:
    """Add the option that names the download cache."""
    parser.add_argument(
        "--cache",
        type=Path,
        default=user_cache.directory(),
        help="the download cache (default: $ROLL_IMAGES_CACHE, or ~/.cache/roll-images)",
    )


def add_cache(parser: Parser) -> None:
    """Add the download cache, and the directory from which wheels are copied into it."""
    add_cache_location(parser)
    parser.add_argument(
        "--wheels",
        type=Path,
        metavar="DIR",
        help="directory of the `wheels:` in matrix.yaml, which no index has; copied into the cache",
    )


def add_parts(parser: Parser) -> None:
    """Add the options of bundles: the size of their parts, and what the destination has."""
    add = parser.add_argument
    add(
        "--part-size",
        type=arguments.size,
        default="60MB",
        help="largest size of a part (default: %(default)s)",
    )
    add(
        "--have",
        type=Path,
        action="append",
        default=[],
        metavar="INVENTORY",
        help="leave out files that the destination has: the output of its inventory.py; repeatable",
    )


def add_plain_http(parser: Parser) -> None:
    """Add the option for registries without TLS."""
    parser.add_argument(
        "--plain-http", action="store_true", help="connect to registries without TLS"
    )


def add_compression(parser: Parser, what: str) -> None:
    """Add the option for the compression of layers.

    Args:
        parser: of the command.
        what: is compressed, for the help.
    """
    parser.add_argument(
        "--compression",
        type=arguments.choice(COMPRESSIONS),
        metavar=one_of(COMPRESSIONS),
        default="zstd",
        help=what,
    )


def add_mirror(parser: Parser) -> None:
    """Add the option that names a Debian mirror."""
    parser.add_argument(
        "--debian-mirror",
        metavar="URL",
        default=os.environ.get("ROLL_IMAGES_DEBIAN_MIRROR"),
        help="a mirror or snapshot archive (default: $ROLL_IMAGES_DEBIAN_MIRROR, or the host's)",
    )


def add_json(parser: Parser) -> None:
    """Add the option for a JSON document."""
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
