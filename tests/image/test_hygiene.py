"""Nothing in the image tells of the machine that built it, or of the indices that it used."""

from __future__ import annotations

import configparser
import getpass
import json
import os
import re
import socket
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit

import pytest

from images import image_paths
from images.export.docker.archive import unpacked
from tests.image.box import Box
from tests.image.subject import Subject

OURS = (
    f"/{image_paths.PREFIX}/pyvenv.cfg",
    f"/{image_paths.CUDA_HOME}/bin/nvcc.profile",
    f"/{image_paths.SITE_PACKAGES}/*.dist-info/RECORD",
    f"/{image_paths.SITE_PACKAGES}/*.dist-info/INSTALLER",
    f"/{image_paths.SITE_PACKAGES}/*.dist-info/REQUESTED",
    f"/{image_paths.SITE_PACKAGES}/*.pth",
    "/etc/apt/sources.list",
    "/etc/apt/**/*",
    "/etc/ld.so.conf.d/*",
    "/etc/environment",
    "/etc/profile.d/*",
)
"""Files that the builder writes, or that tell where packages come from."""

FORBIDDEN_FILES = (
    "/etc/pip.conf",
    "/etc/xdg/pip/pip.conf",
    "/etc/uv/uv.toml",
    f"/{image_paths.PREFIX}/pip.conf",
    "/root/.netrc",
    "/root/.config",
    "/root/.cache",
    "/root/.pip",
    "/root/.bash_history",
    "/packages",
    f"/{image_paths.SITE_PACKAGES}/*.dist-info/direct_url.json",
    f"/{image_paths.SITE_PACKAGES}/*.dist-info/uv_cache.json",
    f"/{image_paths.SITE_PACKAGES}/*.egg-link",
    "/var/lib/apt/lists/*_*",
    "/var/cache/apt/archives/*.deb",
)

SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY", re.IGNORECASE)
INDEX = re.compile(
    r"(PIP|UV)_.*(INDEX|FIND_LINKS|TRUSTED_HOST).*|ROLL_IMAGES_(CACHE|DEBIAN_MIRROR|WHEELS)|\w+_PROXY",
    re.I,
)

GLOB = """
import glob, json, os, sys
found = {}
for pattern in json.load(open(sys.argv[1])):
    for path in glob.glob(pattern, recursive=True):
        if os.path.isdir(path):
            found.setdefault(path, None)
        else:
            with open(path, "rb") as stream:
                found[path] = stream.read(1 << 20).decode("utf-8", "replace")
print(json.dumps(found))
"""

# Hosts that upstream's own metadata name: where the configured index is such a public one, its
# address stands in many files by right. Files of our making are looked at without this exception.
HOSTS = """
import importlib.metadata, json, re
hosts = set()
for item in importlib.metadata.distributions():
    hosts.update(re.findall(r"https?://([\\w.-]+)", item.read_text("METADATA") or ""))
print(json.dumps(sorted(hosts)))
"""

# Whole files up to 4 MiB, text and byte code alike: larger ones are compiled libraries and data.
SCAN = """
import json, os, re, sys
needles = {name: value.encode() for name, value in json.load(open(sys.argv[1])).items()}
pattern = re.compile(b"|".join(re.escape(value) for value in needles.values()))
skipped = {"/proc", "/sys", "/dev", "/tmp", "/run"}
given = {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}  # by the container engine
found, count = [], 0
for place, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(place, name) not in skipped]
    for name in files:
        path = os.path.join(place, name)
        if path in given or os.path.islink(path) or not os.path.isfile(path):
            continue
        if os.path.getsize(path) > 4 << 20:
            continue
        with open(path, "rb") as stream:
            content = stream.read()
        count += 1
        if pattern.search(content):
            found += [[name, path] for name, value in needles.items() if value in content]
print(json.dumps([count, found]))
"""


def ask(box: Box, code: str, value: Any) -> Any:
    """Run a script with a JSON file as its argument."""
    box.write("/tmp/asked.json", json.dumps(value))
    return box.ask(code, "/tmp/asked.json")


def of_this_machine(store: Path) -> Iterator[tuple[str, str]]:
    """What would tell of this machine, by what it is. Values are never shown: some are secret."""
    yield "the store", str(store)
    yield "the working directory", str(Path.cwd())
    yield "the repository", str(Path(__file__).resolve().parent.parent.parent)
    yield "the home directory", str(Path.home() / "")
    yield "the download cache", str(Path.home() / ".cache" / "roll-images")
    yield "a workshop of the builder", f"{tempfile.gettempdir()}/roll-images-"
    yield "the host's name", socket.gethostname()
    yield "the user's name", f"/home/{getpass.getuser()}/"
    for name, value in os.environ.items():
        if SECRET.search(name) or INDEX.fullmatch(name):
            yield f"${name}", value
    for address in configured_indices():
        yield "a configured index", address


def configured_indices() -> Iterator[str]:
    """Addresses in the configuration files of pip and uv."""
    places = [Path("/etc"), Path.home() / ".config" / "pip", Path.home() / ".pip"]
    for path in [place / "pip.conf" for place in places]:
        if path.is_file():
            parser = configparser.ConfigParser()
            parser.read(path)
            for section in parser.sections():
                for name, value in parser[section].items():
                    if "index" in name or "find-links" in name:
                        yield from value.split()
    for path in (Path("/etc/uv/uv.toml"), Path.home() / ".config" / "uv" / "uv.toml"):
        if path.is_file():
            yield from re.findall(r"https?://[^\s\"']+", path.read_text())


def needles(store: Path) -> dict[str, str]:
    """Those that cannot stand in an upstream file by chance."""
    found: dict[str, str] = {}
    for what, value in of_this_machine(store):
        # A variable may hold several addresses; a path is one name, with its spaces.
        for part in value.split() if "://" in value else [value]:
            address = urlsplit(part)
            telling = len(part) >= 6 and part not in ("/root/", "/tmp/", "/home/")
            if telling and part != "localhost":
                found[f"{what} ({len(found)})"] = part
            if address.password:
                found[f"a password in {what}"] = address.password
    return found


def test_no_file_names_the_builder(box: Box, subject: Subject) -> None:
    public = set(box.ask(HOSTS))
    told = {
        what: value
        for what, value in needles(subject.store.path).items()
        if urlsplit(value).hostname not in public
    }
    count, found = ask(box, SCAN, told)
    assert count > 1000, "files were read at all"
    assert found == []


def test_needles_are_found_where_they_are(new_box: Box, subject: Subject) -> None:
    """The scan itself works: the same, with one file that tells."""
    told = needles(subject.store.path)
    what, value = next(iter(told.items()))
    with new_box.started() as started:
        started.write(f"/{image_paths.SITE_PACKAGES}/leak.txt", f"built in {value} \n")
        _, found = ask(started, SCAN, told)
    assert [what, f"/{image_paths.SITE_PACKAGES}/leak.txt"] in found


def test_files_of_our_making_name_no_address(box: Box) -> None:
    files = ask(box, GLOB, OURS)
    texts = {path: text for path, text in files.items() if text is not None}
    assert f"/{image_paths.PREFIX}/pyvenv.cfg" in texts
    assert [path for path, text in texts.items() if re.search(r"\w://|\w@\w+\.", text)] == []


def test_files_that_should_not_be_there_are_not(box: Box) -> None:
    assert list(ask(box, GLOB, FORBIDDEN_FILES)) == []


def test_scripts_start_with_the_images_python(box: Box) -> None:
    scripts = ask(box, GLOB, [f"/{image_paths.BIN}/*"])
    first = {path: text.partition("\n")[0] for path, text in scripts.items() if text is not None}
    python = [line for line in first.values() if line.startswith("#!") and "python" in line]
    assert set(python) <= {f"#!/{image_paths.BIN}/python"}


@pytest.mark.parametrize("document", ["config", "manifest"])
def test_documents_tell_nothing(subject: Subject, document: str) -> None:
    text: bytes = getattr(subject.image, document)
    for what, value in needles(subject.store.path).items():
        assert value.encode() not in text, what
    assert re.search(rb"https?://", text) is None


def test_host_files_are_not_in_the_base(subject: Subject) -> None:
    """An engine mounts its own over them, so they are looked for in the layer."""
    pieces = unpacked(subject.store, subject.image.layers[0].blob)
    stream = cast("IO[bytes]", _Stream(pieces))
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        names = {member.name for member in tar}
    assert names & {"etc/hostname", "etc/resolv.conf", "etc/hosts"} <= {"etc/hosts"}
    assert not any(name.startswith(("proc/", "sys/")) for name in names)


class _Stream:
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest += piece
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece
