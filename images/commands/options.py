"""The options of the command line: what each command takes. Nothing is read or done here."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from images.commands import arguments, usage
from images.commands.arguments import Parser
from images.oci.descriptor import COMPRESSIONS

Run = Callable[[argparse.Namespace], int]

_BACKENDS = ("docker", "rootfs")

UPLOADS = 4
"""Blobs that go out or come in at a time: enough to fill a line, few enough for one disk."""


def parser(root: Path, description: str, commands: Mapping[str, Run]) -> Parser:
    """The parser of the whole command line; what is parsed has the command as `run`.

    Args:
        root: the directory that the matrix and the store lie in by default.
        description: of the program.
        commands: what runs each command, by its name; a command's help is its docstring.
    """
    whole = Parser(
        prog="build.py",
        description=description,
        epilog=usage.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    found = whole.add_subparsers(metavar="COMMAND", required=True)
    for name, run in commands.items():
        one = found.add_parser(name, help=run.__doc__, description=run.__doc__, allow_abbrev=False)
        one.set_defaults(run=run)
        _add_places(one, root)
        _OPTIONS[name](one)
        whole.commands[name] = one
    return whole


def _add_places(parser: Parser, root: Path) -> None:
    add = parser.add_argument
    add("--matrix", type=Path, default=root / "matrix.yaml", help="the matrix (%(default)s)")
    add("--store", type=Path, default=root / "store", help="the OCI layout (%(default)s)")


# -- commands --------------------------------------------------------------------------------------


def _build(parser: Parser) -> None:
    _add_targets(parser)
    _add_cache(parser)
    parser.add_argument(
        "--offline",
        action="store_true",
        help="touch no network; fail, with the command that mends it, when a file is missing",
    )
    parser.add_argument(
        "--only-known",
        action="store_true",
        help="make no layer; fail when neither the store nor a cache has one. Nothing of any "
        "package runs then, as it should be where a login is that may write",
    )
    _add_compression(
        parser, "of layers: gzip for registries and engines without zstd, such as Docker before 23"
    )
    add = parser.add_argument
    add(
        "--cache-from",
        action="append",
        default=[],
        metavar="REGISTRY/REPO",
        help="take layers that it has from there; their bytes come when they are needed; "
        "repeatable, the first that has a layer gives it. Whoever may write there decides what is "
        "in them",
    )
    add(
        "--cache-to",
        metavar="REGISTRY/REPO",
        help="bring the layers that it lacks there after the build; login from `docker login`",
    )
    _add_plain_http(parser)
    _add_jobs(parser, "layers at a time")
    _add_mirror(parser)
    _add_json(parser)


def _fetch(parser: Parser) -> None:
    _add_targets(parser)
    _add_cache(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--check", action="store_true", help="fetch nothing; fail when something is missing"
    )
    how.add_argument(
        "--list",
        action="store_true",
        dest="paths_only",
        help="print the files' paths below the cache, for tar -T - or rsync --files-from=-",
    )
    _add_jobs(parser, "files to hash at a time")
    _add_plain_http(parser)
    _add_mirror(parser)
    _add_json(parser)


def _lock(parser: Parser) -> None:
    _add_some_targets(parser)
    add = parser.add_argument
    add("--check", action="store_true", help="change nothing; fail on a stale lock")
    add(
        "--base",
        action="store_true",
        dest="base_only",
        help="newest packages for base, compiler and flavours",
    )
    _add_cache(parser)
    _add_mirror(parser)


def _load(parser: Parser) -> None:
    _add_targets(parser)
    add = parser.add_argument
    add("--tag", action="append", help="image name (roll-sglang:TARGET); repeatable")
    _add_json(parser)


def _bundle(parser: Parser) -> None:
    add = parser.add_argument
    add("--target", required=True, metavar="ID", help="the image")
    add("--out", required=True, type=Path, metavar="DIR", help="where it goes")
    add(
        "--part-size",
        type=arguments.size,
        default="60MB",
        help="bytes of a part at most (%(default)s)",
    )
    add(
        "--have",
        type=Path,
        action="append",
        default=[],
        metavar="INVENTORY",
        help="leave out what the destination has, as its inventory.py listed it; repeatable",
    )
    add(
        "--since",
        metavar="TARGET|DIGEST",
        help="leave out the layers of an image of the store: the destination has its bundle",
    )
    _add_jobs(parser, "layers to compare at a time")
    _add_json(parser)


def _push(parser: Parser) -> None:
    _add_targets(parser)
    add = parser.add_argument
    add(
        "--to",
        required=True,
        metavar="REGISTRY/REPO[:TAG]",
        help="where to; the tag is the target's id if none is given",
    )
    add(
        "--mount-from",
        action="append",
        default=[],
        metavar="REPO",
        help="a repository of that registry to take blobs over from; repeatable. Those that this "
        "store was pushed to are tried as well",
    )
    add(
        "--no-mount",
        action="store_false",
        dest="mount",
        help="take blobs over from repositories that --mount-from names, and from no others",
    )
    add("--never-move", action="store_true", help="fail when the tag names another image")
    add(
        "--attest",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="fail, before the image has its name, when the registry does not take its SBOM and "
        "provenance or lists them nowhere (by default that is a warning); --no-attest: the image "
        "alone",
    )
    _add_jobs(parser, "uploads at a time", UPLOADS)
    _add_plain_http(parser)
    _add_json(parser)


def _promote(parser: Parser) -> None:
    add = parser.add_argument
    add("--target", required=True, metavar="ID", help="what the image is of")
    add(
        "--digest",
        metavar="sha256:…",
        help="the image's manifest (default: that which evidence/ID.json is of)",
    )
    add(
        "--to",
        required=True,
        metavar="REGISTRY/REPO[:TAG]",
        help="the repository that holds it, and the tag to move (default: the target's id)",
    )
    add(
        "--evidence",
        type=Path,
        metavar="FILE",
        help="the proof (evidence/ID.json beside the matrix)",
    )
    add("--unproven", action="store_true", help="move the tag although no GPU has proven the image")
    _add_plain_http(parser)
    _add_json(parser)


def _pull(parser: Parser) -> None:
    _add_targets(parser)
    _add_jobs(parser, "layers at a time", UPLOADS)
    _add_json(parser)


def _test(parser: Parser) -> None:
    _add_targets(parser)
    add = parser.add_argument
    add(
        "--backend",
        type=arguments.choice(_BACKENDS),
        metavar=_one_of(_BACKENDS),
        help="a container, or an unpacked root file system (default: as there is Docker or not)",
    )
    add(
        "--rootfs",
        type=Path,
        metavar="DIR",
        help="the image as it was unpacked before: the store then needs no layers",
    )
    add(
        "--gpu",
        action="store_true",
        help="what needs a GPU alone, failing where there is none; its outcome is kept as evidence",
    )
    add(
        "--roll",
        type=Path,
        metavar="CHECKOUT",
        help="ROLL's own code from there alone, in an image of a -roll target: its inference "
        "worker, and a whole job; with --gpu on a GPU, else on the CPU as far as it goes",
    )
    add(
        "--evidence",
        type=Path,
        metavar="FILE",
        help="where (evidence/TARGET.json beside the matrix)",
    )
    add("pytest", nargs="*", help="options for pytest, behind --")


def _document(parser: Parser) -> None:
    add = parser.add_argument
    add("--target", required=True, metavar="ID", help="the image")
    add("--out", type=Path, metavar="FILE", help="where it goes (standard output)")


def _inspect(parser: Parser) -> None:
    _add_some_targets(parser)
    _add_json(parser)


def _plan(parser: Parser) -> None:
    _add_targets(parser)
    _add_compression(parser, "of the layers that a build would make (%(default)s)")
    _add_cache_place(parser)
    _add_json(parser)


def _diff(parser: Parser) -> None:
    what = "a target's id, or the digest of an image in the store or how it begins"
    parser.add_argument("old", metavar="FROM", help=what)
    parser.add_argument("new", metavar="TO", help="what to move to, named so as well")
    _add_compression(parser, "of layers that are not made (%(default)s)")
    _add_json(parser)


def _gc(parser: Parser) -> None:
    parser.add_argument(
        "--damaged", action="store_true", help="hash all blobs first, and remove damaged ones too"
    )


# -- options that commands share -------------------------------------------------------------------


def _add_targets(parser: Parser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--target", action="append", default=[], metavar="ID", help="repeatable")
    which.add_argument("--all", action="store_true", help="every target of the matrix")


def _add_some_targets(parser: Parser) -> None:
    parser.add_argument(
        "--target", action="append", default=[], metavar="ID", help="only this one; repeatable"
    )


def _add_jobs(parser: Parser, what: str, default: int | None = None) -> None:
    parser.add_argument(
        "--jobs",
        type=arguments.positive,
        default=default or os.cpu_count() or 1,
        help=f"{what} (%(default)s)",
    )


def _add_cache_place(parser: Parser) -> None:
    help_text = "downloads (%(default)s)"
    parser.add_argument("--cache", type=Path, default=default_cache(), help=help_text)


def _add_cache(parser: Parser) -> None:
    _add_cache_place(parser)
    parser.add_argument(
        "--wheels",
        type=Path,
        metavar="DIR",
        help="holds own wheels that matrix.yaml names; they are copied into the cache",
    )


def default_cache() -> Path:
    """Where downloads are kept unless `--cache` names another place."""
    if given := os.environ.get("ROLL_IMAGES_CACHE"):
        return Path(given)
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor a line in passwd; what writes there names the option
        home = Path("/nonexistent")
    return home / ".cache" / "roll-images"


def _add_plain_http(parser: Parser) -> None:
    parser.add_argument("--plain-http", action="store_true", help="talk to registries without TLS")


def _add_compression(parser: Parser, what: str) -> None:
    parser.add_argument(
        "--compression",
        type=arguments.choice(COMPRESSIONS),
        metavar=_one_of(COMPRESSIONS),
        default="zstd",
        help=what,
    )


def _one_of(words: Sequence[str]) -> str:
    return f"{{{','.join(words)}}}"


def _add_mirror(parser: Parser) -> None:
    parser.add_argument(
        "--debian-mirror",
        metavar="URL",
        default=os.environ.get("ROLL_IMAGES_DEBIAN_MIRROR"),
        help="instead of the host's, e.g. a snapshot archive",
    )


def _add_json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


_OPTIONS: dict[str, Callable[[Parser], None]] = {
    "build": _build,
    "fetch": _fetch,
    "list": _add_json,
    "lock": _lock,
    "load": _load,
    "bundle": _bundle,
    "push": _push,
    "promote": _promote,
    "pull": _pull,
    "sbom": _document,
    "provenance": _document,
    "test": _test,
    "inspect": _inspect,
    "plan": _plan,
    "diff": _diff,
    "sizes": _add_json,
    "verify": _add_json,
    "gc": _gc,
}
