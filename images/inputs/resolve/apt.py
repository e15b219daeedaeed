"""apt as the resolver of Debian packages, in a directory of its own.

apt resolves dependencies and checks the archives' signatures, independent of the host's apt and
dpkg state. The records of the chosen packages are read from the signed `Packages` indices.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from images.errors import LockError, ToolError
from images.http import session
from images.inputs.fetch.mirror import Mirror
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.deb import Deb, Suite

ARCHITECTURE = "amd64"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# `Inst libc6 (2.36-9 Debian:12.5/stable [amd64])`, as `apt-get --simulate install` prints it.
_CHOSEN = re.compile(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", re.MULTILINE)

# `Inst libc6 [2.36-9] (2.36-10 …)` and `Remv libc6 [2.36-9]`: an installed package is replaced.
_REPLACED = re.compile(r"^(?:Inst|Remv) (\S+) \[(\S+)\](?: \((\S+) )?", re.MULTILINE)

# The options of a `deb` line of apt's sources: without `arch`, apt looks for other architectures.
_OPTIONS = f"arch={ARCHITECTURE} signed-by={KEYRING}"


def closure(suites: Sequence[Suite], packages: Sequence[str], mirror: Mirror) -> list[Deb]:
    """Return `packages`, all Essential ones, and their dependencies; no recommended packages.

    Raises:
        ToolError: apt or the keyring is missing, or the indices are unavailable or not signed.
        LockError: the packages do not exist or do not fit together.
    """
    with _private(suites, mirror) as home:
        command = ["apt-get", "--simulate", "--no-install-recommends", "install", "?essential"]
        done = _run([*command, *packages], home)
        if done.returncode != 0:
            raise LockError(
                f"apt cannot choose the packages {' '.join(packages)}:\n{_tail(done)}",
                remedy="correct the list of packages, or name another mirror: --debian-mirror URL",
            )
        index = _index(suites, mirror, home)
        return [_found(index, name, version) for name, version in chosen(done.stdout)]


def additions(
    suites: Sequence[Suite],
    packages: Sequence[str],
    installed: Sequence[str],
    mirror: Mirror,
    *,
    remedy: str,
) -> list[Deb]:
    """Return what `packages` need beyond the installed packages; no recommended packages.

    Args:
        suites: the suites to choose from.
        packages: names.
        installed: the control paragraphs of the installed packages, which must stay as they are.
        mirror: where the archives are.
        remedy: the command that updates the installed ones.

    Raises:
        ToolError: apt or the keyring is missing, or the indices are unavailable or not signed.
        LockError: the packages do not exist or do not fit together, or an installed one would be
            removed or replaced by another version.
    """
    status = "\n".join(f"{control}Status: install ok installed\n" for control in installed)
    with _private(suites, mirror, status) as home:
        command = ["apt-get", "--simulate", "--no-install-recommends", "install"]
        done = _run([*command, *packages], home)
        if done.returncode != 0:
            raise LockError(f"apt cannot choose the packages:\n{_tail(done)}", remedy=remedy)
        if lost := replaced(done.stdout):
            lines = (f"\n  {name}: {old} -> {new or 'removed'}" for name, old, new in lost)
            raise LockError(
                f"{', '.join(packages)}: they need other packages than the base has:"
                f"{''.join(lines)}",
                remedy=remedy,
            )
        index = _index(suites, mirror, home)
        return [_found(index, name, version) for name, version in chosen(done.stdout)]


def exactly(suites: Sequence[Suite], versions: Mapping[str, str], mirror: Mirror) -> list[Deb]:
    """Return the named versions of packages, without their dependencies.

    Raises:
        ToolError: apt or the keyring is missing, or the indices are unavailable or not signed.
        LockError: the archive does not list one of them.
    """
    with _private(suites, mirror) as home:
        index = _index(suites, mirror, home)
        return [_found(index, name, version) for name, version in versions.items()]


def chosen(simulation: str) -> list[tuple[str, str]]:
    """Return the packages that `apt-get --simulate install` installs, by name and version."""
    return _CHOSEN.findall(simulation)


def replaced(simulation: str) -> list[tuple[str, str, str]]:
    """Return the installed packages that it replaces: name, old version, and new one or ""."""
    return _REPLACED.findall(simulation)


def _found(index: Mapping[tuple[str, str], Deb], name: str, version: str) -> Deb:
    try:
        return index[name, version]
    except KeyError:
        raise LockError(
            f"the archive does not list {name}={version}",
            remedy="name a mirror that has it, such as a snapshot archive: --debian-mirror URL",
        ) from None


@contextmanager
def _private(suites: Sequence[Suite], mirror: Mirror, status: str = "") -> Iterator[Path]:
    """Yield a directory with apt's configuration, state and updated indices."""
    if not KEYRING.is_file():
        raise ToolError(
            f"{KEYRING}: Debian's signing keys are missing",
            remedy="install them: apt-get install debian-archive-keyring",
        )
    with tempfile.TemporaryDirectory(prefix="roll-images-apt-") as temporary:
        if '"' in temporary:  # apt's settings have no quoting
            raise ToolError(
                f"apt takes no directory for temporary files with a double quote in its name: "
                f"{temporary}",
                remedy="set TMPDIR to another directory",
            )
        home = Path(temporary)
        # apt downloads as its own unprivileged user, who needs to traverse the directory.
        home.chmod(0o755)
        # The installed packages. If there are none, the closure is that of an empty machine.
        (home / "status").write_text(status, encoding="utf-8")
        _configure(home, suites, mirror)
        done = _run(["apt-get", "update", "--error-on=any"], home)
        if done.returncode != 0:
            said = _tail(done)
            raise ToolError(f"apt cannot read the archives' indices:\n{said}", remedy=remedy(said))
        yield home


def remedy(said: str) -> str:
    """Return what helps against what `apt-get update` reports."""
    if "NO_PUBKEY" in said:  # Ubuntu 22.04 has the keys up to Debian 11
        return f"{KEYRING} lacks the release's keys: take debian-archive-keyring of Debian 12"
    return "check the network, or name another mirror: --debian-mirror URL"


def _configure(home: Path, suites: Sequence[Suite], mirror: Mirror) -> None:
    for directory in ("lists/partial", "cache/archives/partial"):
        (home / directory).mkdir(parents=True)
        for path in (home / directory, *(home / directory).relative_to(home).parents):
            (home / path).chmod(0o755)
    lines = (f"deb [{_OPTIONS}] {mirror.root(s.archive)} {s.name} {s.component}\n" for s in suites)
    # For apt itself, not for its unprivileged helpers: a mirror's URL may contain a login.
    (home / "sources.list").touch(0o600)
    (home / "sources.list").write_text("".join(lines), encoding="utf-8")
    settings = {
        # The host's settings, pins and sources must have no effect.
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::sourcelist": str(home / "sources.list"),
        "Dir::State": str(home),
        "Dir::State::lists": str(home / "lists"),
        "Dir::State::status": str(home / "status"),
        "Dir::Cache": str(home / "cache"),
        "APT::Architecture": ARCHITECTURE,
        "APT::Architectures": ARCHITECTURE,
        "APT::Install-Recommends": "false",
        # Otherwise apt would treat itself as essential.
        "pkgCacheGen::ForceEssential": ",",
        "Acquire::Languages": "none",
        "Acquire::Check-Valid-Until": "false" if mirror.chosen else "true",
    }
    text = "".join(f'{key} "{value}";\n' for key, value in settings.items())
    (home / "apt.conf").write_text(text, encoding="utf-8")
    for name in ("status", "apt.conf"):
        (home / name).chmod(0o644)


def _index(suites: Sequence[Suite], mirror: Mirror, home: Path) -> dict[tuple[str, str], Deb]:
    """Return the packages of the indices that apt downloaded and checked, by name and version."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(FILENAME)"]
    done = _run([*command, "Created-By: Packages"], home)
    archives = {f"{mirror.root(suite.archive)}/": suite.archive for suite in suites}
    index: dict[tuple[str, str], Deb] = {}
    for line in done.stdout.splitlines():
        url, _, filename = line.partition(" ")
        for stanza in _plain(Path(filename), home).split("\n\n"):
            deb = parse_stanza(stanza, archives[url])
            if deb is not None:
                index.setdefault((deb.package, deb.version), deb)
    return index


def _plain(path: Path, home: Path) -> str:
    """Return the text of an index; apt may keep it compressed."""
    return _run(["/usr/lib/apt/apt-helper", "cat-file", str(path)], home).stdout


def parse_stanza(stanza: str, archive: str) -> Deb | None:
    """Return the package of a stanza of a `Packages` index, or None if it describes none."""
    fields = dict(
        line.partition(": ")[::2] for line in stanza.splitlines() if not line.startswith(" ")
    )
    try:
        path = fields["Filename"]
        artifact = Artifact(path.rpartition("/")[2], fields["SHA256"], int(fields["Size"]))
        return Deb(fields["Package"], fields["Version"], archive, path, artifact)
    except KeyError:
        return None


def _run(command: Sequence[str], home: Path) -> subprocess.CompletedProcess[str]:
    # The host's proxy settings apply; its language would change the output that is parsed.
    environment = {**os.environ, "APT_CONFIG": str(home / "apt.conf"), "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, umask=0o022
        )
    except FileNotFoundError:
        raise ToolError(
            f"{command[0]}: no such program", remedy="lock on a Debian or Ubuntu machine"
        ) from None


def _tail(done: subprocess.CompletedProcess[str]) -> str:
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    return session.public_text("\n".join(lines[-20:]))
