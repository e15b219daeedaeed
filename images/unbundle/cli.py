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
from images.unbundle.destinations.disk import told
from images.unbundle.destinations.oci_layout import Layout
from images.unbundle.destinations.root_directory import Rootfs
from images.unbundle.document import Bundle, IncompleteError
from images.unbundle.sources import inventory, zstd
from images.unbundle.sources.holdings import Holdings
from images.unbundle.sources.layer_source import Sources
from images.unbundle.sources.parts import Parts
from images.unbundle.sources.zstd import Decompress
from images.unbundle.work import Destination, Outcome, Work
from images.util import limits, untrusted_files

INTERRUPTED = 130
_MOST_FAULTS = 50  # that are listed
_FULL = 7

DESCRIPTION = """\
Lay out the image of a bundle: as a root file system, as an OCI layout, or both.

Every byte is checked. Parts may arrive in any order and one by one: each run does what can be done
with those that are there, and the next goes on from there; so does one after a run was killed.
"""
EPILOG = """\
other commands:
  unpack.py check               which parts are missing or damaged; nothing is written
  unpack.py check --rootfs DIR  what of DIR is not as the layers say; needs the parts
  unpack.py inventory DIR...    list files by content, for `build.py bundle --have`

exit codes:
  0 the image is whole           6 something that arrived is damaged
  2 wrong usage                  7 disk full, not writable
  3 parts have not arrived yet   8 nothing here can read zstd
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    inventory.open_closed()
    code = _run(arguments)
    lost = _flushed(sys.stdout)
    if lost is not None and not isinstance(lost, BrokenPipeError):  # its reader has enough
        remedy = "let it go to a place that takes all of it, and run the same command again"
        _tell(StoreError(f"standard output: {lost.strerror}", remedy=remedy))
        code = code or _FULL
    _flushed(sys.stderr)
    return code


def _flushed(stream: TextIO) -> OSError | None:
    """What is left of a stream is written, or dropped: Python would complain when it exits."""
    try:
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None


def _run(arguments: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # of any encoding: names are as they are
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
        _tell(error)
        return error.exit_code
    except BrokenPipeError:
        return 1
    except OSError as error:
        _tell(told(error, "unpack.py"))
        return _FULL
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _say("interrupted: run the same command again to resume")
        # Threads are at work, and nothing that they do now must be finished.
        os._exit(INTERRUPTED)


def _no_command(word: str) -> UsageError:
    import difflib  # only a faulty word needs it

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
    add("--remove-parts", action="store_true", help="remove each part once it is used up")
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
        help="compare every file of an unpacked image with its layers: content, mode, owner, and "
        "what was added since",
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
    add("--zstd", choices=zstd.WAYS, help="read zstd by this alone (default: the first that works)")
    add(
        "--digest",
        type=_digest,
        metavar="sha256:…",
        help="the manifest that the bundle must be of, as `build.py bundle` printed it; without it "
        "a bundle that was changed on its way, with all of its sums, is taken as it is",
    )
    add(
        "--bundle",
        type=Path,
        default=Path(sys.argv[0]).absolute().parent,
        metavar="DIR",
        help="where bundle.json and the parts are (%(default)s)",
    )


def _digest(text: str) -> str:
    if not document.DIGEST.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"not a digest, `sha256:` and 64 hexadecimal digits: {text}"
        )
    return text


# -- commands --------------------------------------------------------------------------------------


def _unpack(options: argparse.Namespace) -> int:
    """Lay the image out as far as the parts go."""
    if options.rootfs is None and options.layout is None:
        raise UsageError("nothing to do", remedy="name --rootfs DIR, --layout DIR or both")
    if options.no_layers and options.layout is None:
        raise UsageError("--no-layers is for --layout DIR")
    begin = time.monotonic()
    bundle = _read(options)
    parts = Parts(options.bundle, bundle)
    places: list[Destination] = []
    if options.layout is not None:
        places.append(Layout(options.layout, bundle, layers=not options.no_layers))
    if options.rootfs is not None:
        places.append(Rootfs(options.rootfs, bundle, setuid=options.keep_setuid))
    held = [*options.sources, *([options.layout] if options.layout else [])]
    sources = _sources(options, bundle, parts, held)
    for place in places:
        if isinstance(place, Rootfs) and place.complete:
            _look_again(place, sources)
    work = Work(bundle, parts, sources, places, _say)
    outcome = work.run(max(1, options.jobs), remove_parts=options.remove_parts)
    todo = work.todo()
    if todo:
        raise _unfinished(bundle, outcome, len(todo), parts.strangers())
    for place in places:
        place.finish()
    _say(f"{bundle.ref} is whole, {time.monotonic() - begin:.1f} s: {bundle.manifest_digest}")
    for place in places:
        print(printable.lines("\n".join(place.how_to())))
    return 0


def _check(options: argparse.Namespace) -> int:
    """Tell which parts are missing, damaged, doubled or unknown; write nothing."""
    bundle = _read(options)
    parts = Parts(options.bundle, bundle)
    if options.rootfs is not None:
        return _check_rootfs(options, bundle, parts)
    numbers = range(len(bundle.parts))
    missing = [bundle.parts[number].name for number in numbers if not parts.arrived(number)]
    faults = [parts.fault(number) for number in numbers if parts.arrived(number)]
    faults = [fault for fault in faults if fault]
    strangers = parts.strangers()
    right = len(bundle.parts) - len(missing) - len(faults)
    for name, wanted in bundle.files.items():
        path = options.bundle / name
        if not path.is_file():
            missing.append(name)
        elif inventory.sha256(str(path)) != wanted:
            faults.append(f"{name}: damaged")
    for line in faults:
        print(printable.line(f"{line}: send {line.partition(':')[0]} again"))
    for line, remedy in strangers:
        print(printable.line(f"{line}: {remedy}"))
    if missing:
        print(printable.line(f"missing: {_names(missing)}"))
    print(f"{bundle.ref} {bundle.manifest_digest}: {right} of {len(bundle.parts)} parts are right")
    if faults:
        return IntegrityError.exit_code
    return IncompleteError.exit_code if missing else 0


def _look_again(place: Rootfs, sources: Sources) -> None:
    """A record says that the image was laid out before: see, where that can be seen."""
    command = f"unpack.py check --rootfs {place.path}"
    try:
        faults = place.faults(sources, thorough=False)
    except IncompleteError:
        _say(
            f"{place.path}: laid out earlier, its record says; without the parts it is not compared"
        )
        return
    if faults:
        raise _not_as_layers_say(place.path, faults)
    _say(f"{place.path}: laid out earlier, and nothing is missing; {command} compares every byte")


def _check_rootfs(options: argparse.Namespace, bundle: Bundle, parts: Parts) -> int:
    if not options.rootfs.is_dir():
        raise UsageError(f"{options.rootfs}: no directory", remedy="name an unpacked image")
    place = Rootfs(options.rootfs, bundle)
    if not place.complete:
        raise IncompleteError(f"{place.path}: not whole yet", remedy="run unpack.py --rootfs first")
    faults = place.faults(_sources(options, bundle, parts, options.sources), thorough=True)
    if faults:
        raise _not_as_layers_say(place.path, faults)
    print(f"{place.path}: every file is as {bundle.ref} {bundle.manifest_digest} says")
    return 0


def _not_as_layers_say(path: Path, faults: Sequence[str]) -> IntegrityError:
    some = [*faults[:_MOST_FAULTS], *(["…"] if len(faults) > _MOST_FAULTS else [])]
    return IntegrityError(
        f"{path}: {len(faults)} paths are not as the layers say\n  " + "\n  ".join(some),
        remedy=f"if nobody changed them on purpose: remove {path} and {path}.json and unpack again",
    )


def _sources(
    options: argparse.Namespace, bundle: Bundle, parts: Parts, held: Sequence[Path]
) -> Sources:
    return Sources(parts, Holdings(held), _Zstd(options.bundle, bundle, options.zstd))


def _read(options: argparse.Namespace) -> Bundle:
    path = options.bundle / document.NAME
    try:
        bundle = document.decode(untrusted_files.whole(path, limits.LIST))
    except FileNotFoundError:
        raise IncompleteError(
            f"{path}: not there", remedy="send it first; or say where it is with --bundle DIR"
        ) from None
    if options.digest not in (None, bundle.manifest_digest):
        raise IntegrityError(
            f"{path}: of the image {bundle.manifest_digest}, not of {options.digest}",
            remedy="send the right bundle; if --digest is right, somebody changed this one",
        )
    return bundle


class _Zstd:
    """Finds a way to read zstd when one is first needed."""

    def __init__(self, directory: Path, bundle: Bundle, only: str | None) -> None:
        self._directory, self._bundle, self._only = directory, bundle, only
        self._found: Decompress | None = None

    def __call__(self) -> Decompress:
        if self._found is None:
            carried = self._directory / document.LIBZSTD
            wanted = self._bundle.files.get(document.LIBZSTD)
            right = carried.is_file() and inventory.sha256(str(carried)) == wanted
            needs = self._bundle.libzstd_needs
            self._found = zstd.find(carried if right else None, needs, self._only)
        return self._found


# -- what people see -------------------------------------------------------------------------------


def _unfinished(
    bundle: Bundle, outcome: Outcome, todo: int, strangers: Sequence[tuple[str, str]]
) -> BuildError:
    """The one error for all that a run could not do."""
    done = f"{bundle.ref}: {len(bundle.layers) - todo} of {len(bundle.layers)} layers are in place"
    lines, remedies = [done], []
    for fault in outcome.faults.values():
        lines.append(fault.message)
        if fault.remedy:
            remedies.append(fault.remedy)
    if outcome.missing:
        lines.append(f"{len(outcome.missing)} parts missing: {_names(list(outcome.missing))}")
        remedies.append("run the same command again when they have arrived")
    for line, remedy in strangers:
        lines.append(line)
        remedies.append(remedy)
    damaged = any(isinstance(fault, IntegrityError) for fault in outcome.faults.values())
    kind = IntegrityError if damaged else IncompleteError
    return kind("\n  ".join(lines), remedy="\n     ".join(dict.fromkeys(remedies)))


def _names(names: Sequence[str]) -> str:
    """Names of parts, those that follow each other as ranges."""
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


def _tell(error: BuildError) -> None:
    _write(f"error: {error.message}")
    if error.remedy:
        _write(f"fix: {error.remedy}")


def _say(line: str) -> None:
    _write(printable.line(line))


def _write(text: str) -> None:
    with suppress(OSError):  # a log on a full disk is no reason to stop
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
