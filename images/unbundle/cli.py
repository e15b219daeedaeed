"""The command line of `unpack.py`."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Sequence, TextIO

from images import printable
from images.errors import BuildError, IntegrityError, StoreError, UsageError
from images.unbundle import document
from images.unbundle.destinations import disk
from images.unbundle.destinations.oci_layout import Layout
from images.unbundle.destinations.root_directory import Rootfs
from images.unbundle.document import Bundle, IncompleteError
from images.unbundle.sources import inventory, zstd
from images.unbundle.sources.holdings import Holdings
from images.unbundle.sources.layer_source import LayerSources
from images.unbundle.sources.parts import Parts
from images.unbundle.sources.zstd import Decompress
from images.unbundle.work import Destination, Shortfall, Work
from images.util import limits, untrusted_files

INTERRUPTED = 130
_MOST_FAULTS = 50  # that are listed
_FULL = StoreError.exit_code

DESCRIPTION = """\
Unpack the image of a bundle: as a root file system, as an OCI layout, or both.

Every byte is checked. Parts may arrive in any order and one by one: each run does what is possible
with the parts that have arrived, and the next run resumes there, also after a run was killed.
"""
EPILOG = """\
other commands:
  unpack.py check               list missing and damaged parts; writes nothing
  unpack.py check --rootfs DIR  list what differs in DIR from the layers; needs the parts
  unpack.py inventory DIR...    list files by content, for `build.py bundle --have`

exit codes:
  0 the image is complete        6 a part or a layer is damaged
  2 wrong usage                  7 disk full, not writable
  3 parts have not arrived yet   8 this machine cannot read zstd
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    inventory.open_closed()
    code = _run(arguments)
    lost = _flushed(sys.stdout)
    if lost is not None and not isinstance(lost, BrokenPipeError):  # its reader closed it
        remedy = "write it to a disk with free space, and run the same command again"
        _report(StoreError(f"standard output: {lost.strerror}", remedy=remedy))
        code = code or _FULL
    _flushed(sys.stderr)
    return code


def _flushed(stream: TextIO) -> OSError | None:
    """Flush a stream, or drop its rest: Python would report an error when it exits."""
    try:
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None


def _run(arguments: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # in any encoding: a name may be any bytes
            stream.reconfigure(errors="backslashreplace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["inventory"]:
            parser = argparse.ArgumentParser(prog="unpack.py inventory")
            inventory.add_options(parser)
            return inventory.run(parser.parse_args(given[1:]))
        if given[:1] == ["check"]:
            return _check(_check_parser().parse_args(given[1:]))
        if given and not given[0].startswith("-"):
            raise _no_command(given[0])
        return _unpack(_parser().parse_args(given))
    except BuildError as error:
        _report(error)
        return error.exit_code
    except BrokenPipeError:
        return 1
    except OSError as error:
        _report(disk.translated(error, "unpack.py"))
        return _FULL
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _log("interrupted: run the same command again to resume")
        # Worker threads may still run; none of their work needs to finish.
        os._exit(INTERRUPTED)


def _no_command(word: str) -> UsageError:
    import difflib  # only needed for a misspelt word

    near = difflib.get_close_matches(word, ["check", "inventory"], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UsageError(f"no command {word!r}{hint}", remedy="python3 unpack.py --help")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unpack.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rootfs", type=Path, metavar="DIR", help="write the image's files here")
    add("--layout", type=Path, metavar="DIR", help="write an OCI layout here, or add to one")
    add("--no-layers", action="store_true", help="manifest and config only, in --layout")
    add(
        "--remove-parts",
        action="store_true",
        help="remove each part after its last use",
    )
    add(
        "--keep-setuid",
        action="store_true",
        help="keep set-uid and set-gid bits of files; --rootfs DIR is then closed to other users",
    )
    cores = len(os.sched_getaffinity(0))
    add("--jobs", type=int, default=min(cores, 8), help="layers at a time (%(default)s)")
    _add_bundle(parser)
    return parser


def _check_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="unpack.py check", description=_check.__doc__)
    parser.add_argument(
        "--rootfs",
        type=Path,
        metavar="DIR",
        help="compare every file of an unpacked image with its layers: content, mode, owner; and "
        "list added files",
    )
    _add_bundle(parser)
    return parser


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--from",
        dest="sources",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="look here for what the bundle left out; repeatable",
    )
    add("--zstd", choices=zstd.WAYS, help="read zstd by this only (default: the first that works)")
    add(
        "--digest",
        type=_digest,
        metavar="sha256:…",
        help="digest of the image's manifest, as printed by `build.py bundle`; without it, a "
        "bundle that was changed in transit together with its sums is accepted",
    )
    add(
        "--bundle",
        type=Path,
        default=Path(sys.argv[0]).absolute().parent,
        metavar="DIR",
        help="directory of bundle.json and the parts (%(default)s)",
    )


def _digest(text: str) -> str:
    if not document.DIGEST.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"not a digest, `sha256:` and 64 hexadecimal digits: {text}"
        )
    return text


# -- commands --------------------------------------------------------------------------------------


def _unpack(options: argparse.Namespace) -> int:
    """Unpack the image as far as its parts have arrived."""
    if options.rootfs is None and options.layout is None:
        raise UsageError("nothing to do", remedy="name --rootfs DIR, --layout DIR or both")
    if options.no_layers and options.layout is None:
        raise UsageError("--no-layers is for --layout DIR")
    begin = time.monotonic()
    bundle = _read(options)
    parts = Parts(options.bundle, bundle)
    destinations: list[Destination] = []
    if options.layout is not None:
        destinations.append(Layout(options.layout, bundle, layers=not options.no_layers))
    if options.rootfs is not None:
        destinations.append(Rootfs(options.rootfs, bundle, setuid=options.keep_setuid))
    directories = [*options.sources, *([options.layout] if options.layout else [])]
    sources = _sources(options, bundle, parts, directories)
    for destination in destinations:
        if isinstance(destination, Rootfs) and destination.complete:
            _check_again(destination, sources)
    work = Work(bundle, parts, sources, destinations, _log)
    shortfall = work.run(max(1, options.jobs), remove_parts=options.remove_parts)
    todo = work.todo()
    if todo:
        raise _unfinished(bundle, shortfall, len(todo), parts.unknown_files())
    for destination in destinations:
        destination.finish()
    _log(f"{bundle.ref} is complete, {time.monotonic() - begin:.1f} s: {bundle.manifest_digest}")
    for destination in destinations:
        print(printable.lines("\n".join(destination.how_to())))
    return 0


def _check(options: argparse.Namespace) -> int:
    """List the parts that are missing, damaged, doubled or unknown; write nothing."""
    bundle = _read(options)
    parts = Parts(options.bundle, bundle)
    if options.rootfs is not None:
        return _check_rootfs(options, bundle, parts)
    numbers = range(len(bundle.parts))
    missing = [bundle.parts[number].name for number in numbers if not parts.arrived(number)]
    faults = [parts.fault(number) for number in numbers if parts.arrived(number)]
    faults = [fault for fault in faults if fault]
    unknown = parts.unknown_files()
    intact = len(bundle.parts) - len(missing) - len(faults)
    for name, wanted in bundle.files.items():
        path = options.bundle / name
        if not path.is_file():
            missing.append(name)
        elif inventory.sha256(str(path)) != wanted:
            faults.append(f"{name}: damaged")
    for line in faults:
        print(printable.line(f"{line}: send {line.partition(':')[0]} again"))
    for line, remedy in unknown:
        print(printable.line(f"{line}: {remedy}"))
    if missing:
        print(printable.line(f"missing: {_names(missing)}"))
    print(
        f"{bundle.ref} {bundle.manifest_digest}: {intact} of {len(bundle.parts)} parts are intact"
    )
    if faults:
        return IntegrityError.exit_code
    return IncompleteError.exit_code if missing else 0


def _check_again(rootfs: Rootfs, sources: LayerSources) -> None:
    """Check a directory whose record says that it is complete, as far as layers are available."""
    path = rootfs.path
    try:
        faults = rootfs.faults(sources, thorough=False)
    except IncompleteError:
        _log(f"{path}: complete according to its record; not compared, since parts are missing")
        return
    if faults:
        raise _differs(path, faults)
    command = f"unpack.py check --rootfs {path}"
    _log(f"{path}: complete already, no file is missing; {command} compares every byte")


def _check_rootfs(options: argparse.Namespace, bundle: Bundle, parts: Parts) -> int:
    if not options.rootfs.is_dir():
        raise UsageError(f"{options.rootfs}: not a directory", remedy="name an unpacked image")
    rootfs = Rootfs(options.rootfs, bundle)
    if not rootfs.complete:
        raise IncompleteError(f"{rootfs.path}: incomplete", remedy="run unpack.py --rootfs first")
    faults = rootfs.faults(_sources(options, bundle, parts, options.sources), thorough=True)
    if faults:
        raise _differs(rootfs.path, faults)
    print(f"{rootfs.path}: every file is as in {bundle.ref} {bundle.manifest_digest}")
    return 0


def _differs(path: Path, faults: Sequence[str]) -> IntegrityError:
    some = [*faults[:_MOST_FAULTS], *(["…"] if len(faults) > _MOST_FAULTS else [])]
    return IntegrityError(
        f"{path}: {len(faults)} paths differ from the layers\n  " + "\n  ".join(some),
        remedy=f"unless that is on purpose: remove {path} and {path}.json and unpack again",
    )


def _sources(
    options: argparse.Namespace, bundle: Bundle, parts: Parts, directories: Sequence[Path]
) -> LayerSources:
    return LayerSources(parts, Holdings(directories), _Zstd(options.bundle, bundle, options.zstd))


def _read(options: argparse.Namespace) -> Bundle:
    path = options.bundle / document.NAME
    try:
        bundle = document.decode(untrusted_files.whole(path, limits.LIST))
    except FileNotFoundError:
        raise IncompleteError(
            f"{path}: not found", remedy="send it first; or name its directory with --bundle DIR"
        ) from None
    if options.digest not in (None, bundle.manifest_digest):
        raise IntegrityError(
            f"{path}: of the image {bundle.manifest_digest}, not of {options.digest}",
            remedy="send the right bundle; if --digest is right, this one was tampered with",
        )
    return bundle


class _Zstd:
    """A decompressor of zstd, chosen when one is first needed."""

    def __init__(self, directory: Path, bundle: Bundle, only: str | None) -> None:
        self._directory, self._bundle, self._only = directory, bundle, only
        self._found: Decompress | None = None

    def __call__(self) -> Decompress:
        if self._found is None:
            carried = self._directory / document.LIBZSTD
            wanted = self._bundle.files.get(document.LIBZSTD)
            intact = carried.is_file() and inventory.sha256(str(carried)) == wanted
            needs = self._bundle.libzstd_needs
            self._found = zstd.find(carried if intact else None, needs, self._only)
        return self._found


# -- messages --------------------------------------------------------------------------------------


def _unfinished(
    bundle: Bundle, shortfall: Shortfall, todo: int, unknown: Sequence[tuple[str, str]]
) -> BuildError:
    """Return the one error for everything that a run could not do."""
    done = f"{bundle.ref}: {len(bundle.layers) - todo} of {len(bundle.layers)} layers are in place"
    lines, remedies = [done], []
    for fault in shortfall.faults.values():
        lines.append(fault.message)
        if fault.remedy:
            remedies.append(fault.remedy)
    if shortfall.missing:
        lines.append(f"{len(shortfall.missing)} parts missing: {_names(list(shortfall.missing))}")
        remedies.append("run the same command again when they have arrived")
    for line, remedy in unknown:
        lines.append(line)
        remedies.append(remedy)
    damaged = any(isinstance(fault, IntegrityError) for fault in shortfall.faults.values())
    kind = IntegrityError if damaged else IncompleteError
    return kind("\n  ".join(lines), remedy="\n     ".join(dict.fromkeys(remedies)))


def _names(names: Sequence[str]) -> str:
    """Return names of parts as text, consecutive ones as ranges."""
    groups: list[list[str]] = []
    last = None
    for name in sorted(names, key=lambda name: (len(name.partition(" ")[0]), name)):
        digits = name.rpartition("-")[2]
        number = int(digits) if digits.isdecimal() else None
        if number is not None and last is not None and number == last + 1:
            groups[-1].append(name)
        else:
            groups.append([name])
        last = number
    return ", ".join(
        f"{group[0]} to {group[-1]}" if len(group) > 2 else ", ".join(group) for group in groups
    )


def _report(error: BuildError) -> None:
    _write(f"error: {error.message}")
    if error.remedy:
        _write(f"fix: {error.remedy}")


def _log(line: str) -> None:
    _write(printable.line(line))


def _write(text: str) -> None:
    with suppress(OSError):  # a log on a full disk must not stop the work
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
