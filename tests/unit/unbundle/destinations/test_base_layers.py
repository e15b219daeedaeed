"""Layers of custom bases as files: whiteouts, links, and what only other tools write."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from images.errors import IntegrityError
from images.oci.layer.entry import Entry, of_bytes
from images.unbundle.destinations.base_layers import Changes
from images.unbundle.destinations.layer_tree import Tree
from images.unbundle.destinations.member_files import Record
from tests.unit import bundles
from tests.unit.layers import LOWER, Member, cut_off, directory, hard, link, pieces, tar, tar_of


def applied(root: Path, *layers: Sequence[Member]) -> dict[str, object]:
    """Return what the layers leave: content of files, target of links, None for directories."""
    root.mkdir(exist_ok=True)
    changes = Changes(root)
    for members in layers:
        changes.apply(pieces(tar(members)))
    return contents(root)


def contents(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = str(path.readlink())
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def test_whiteout_removes_what_is_below(tmp_path: Path) -> None:
    found = applied(
        tmp_path / "r", LOWER, [Member("d/.wh.file"), Member("d/.wh.sub"), Member(".wh.l")]
    )
    assert found == {"d": None, "d/other": b"other", "abs": "/d/sub"}


def test_whiteout_of_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    found = applied(tmp_path / "r", LOWER, [Member("d/.wh.none"), Member("d/.wh..wh.plnk", b"x")])
    assert found == applied(tmp_path / "s", LOWER)


@pytest.mark.parametrize("first", [True, False])
def test_opaque_directory_keeps_files_of_its_own_layer(tmp_path: Path, first: bool) -> None:
    """Wherever in the tar the marker is."""
    own = [directory("d/sub"), Member("d/sub/new", b"n"), Member("d/file", b"high")]
    marker = [Member("d/.wh..wh..opq")]
    found = applied(tmp_path / "r", LOWER, [*marker, *own] if first else [*own, *marker])
    new = {"d": None, "d/sub": None, "d/sub/new": b"n", "d/file": b"high"}
    assert found == {**new, "l": "d", "abs": "/d/sub"}


def test_whiteout_never_removes_files_of_its_own_layer(tmp_path: Path) -> None:
    found = applied(tmp_path / "r", LOWER, [Member("d/file", b"high"), Member("d/.wh.file")])
    assert found["d/file"] == b"high"


def test_kinds_replace_each_other(tmp_path: Path) -> None:
    upper = [
        Member("d", b"a file now"),
        directory("l"),
        Member("l/in", b"in"),
        link("abs", "nowhere"),
    ]
    found = applied(tmp_path / "r", LOWER, upper)
    assert found == {"d": b"a file now", "l": None, "l/in": b"in", "abs": "nowhere"}


def test_links_on_the_way_are_followed_inside_the_root(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    lower = [*LOWER, link("up", "../../d"), link("dangling", "made/here")]
    upper = [
        Member("l/by-link", b"1"),
        Member("abs/by-absolute", b"2"),
        Member("up/by-dots", b"3"),
        Member("dangling/file", b"4"),
        Member("no/one/listed/it", b"5"),
    ]
    found = applied(tmp_path / "r", lower, upper)
    assert found["d/by-link"] == b"1"
    assert found["d/sub/by-absolute"] == b"2"
    assert found["d/by-dots"] == b"3"
    assert found["made/here/file"] == b"4"
    assert found["no/one/listed/it"] == b"5"
    assert {path.name for path in tmp_path.iterdir()} == {"sub", "r"}


def test_hard_links_reach_lower_layers(tmp_path: Path) -> None:
    upper = [hard("again", "./d/file"), hard("l/third", "again")]
    found = applied(tmp_path / "r", LOWER, upper)
    assert (found["again"], found["d/third"]) == (b"low", b"low")
    assert (tmp_path / "r/d/file").stat().st_nlink == 3
    same = applied(tmp_path / "r", [hard("again", "again")])
    assert same["again"] == b"low"


def test_pipes_are_made_and_devices_left_out(tmp_path: Path) -> None:
    upper = [
        Member("pipe", kind=tarfile.FIFOTYPE),
        Member("null", kind=tarfile.CHRTYPE),
        Member("d/file", kind=tarfile.BLKTYPE),
    ]
    applied(tmp_path / "r", LOWER, upper)
    assert stat.S_ISFIFO((tmp_path / "r/pipe").stat().st_mode)
    assert not (tmp_path / "r/null").exists()
    assert not (tmp_path / "r/d/file").exists()


@pytest.mark.parametrize(
    "members",
    [
        [Member("../above", b"x")],
        [Member("/../../above", b"x")],
        [link("out", "/../../.."), Member("out/above", b"x")],
        [link("out", "../.."), Member("out/above", b"x")],
        [link("x", "OUTSIDE"), Member("x", b"a file of its own")],
        [link("x", "OUTSIDE"), Member("x/below", b"x")],
        [link("x", "OUTSIDE"), hard("y", "x")],
        [Member("d/.wh...", b"")],
        [Member(".wh.", b"")],
        [Member(".wh..", b"")],
        [hard("y", "../../../../etc/passwd")],
        [hard("y", ".")],
        [link("loop", "loop"), Member("loop/x", b"x")],
        [Member(".unpack-covered", b"x")],
        [Member("x", kind=b"V")],
    ],
)
def test_nothing_leads_out_of_the_root(tmp_path: Path, members: list[Member]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    swapped = [
        Member(m.name, m.content, m.kind, m.target.replace("OUTSIDE", str(outside)), m.mode)
        for m in members
    ]
    try:
        applied(tmp_path / "r", LOWER, swapped)
    except IntegrityError as error:
        assert members[-1].name in error.message  # noqa: PT017  # some are refused, some are tame
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "r"}
    assert contents(outside) == {"kept": b"kept"}


@pytest.mark.parametrize("setuid", [False, True])
def test_file_capabilities_and_set_uid_bits_are_kept_only_if_asked_for(
    tmp_path: Path, setuid: bool
) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    capability = b"\x01\x00\x00\x02\x00 \x00\x00" + bytes(12)  # cap_net_raw=ep
    info = tarfile.TarInfo("ping")
    info.uid, info.gid, info.mode = 12, 34, 0o4755
    info.pax_headers = {"SCHILY.xattr.security.capability": capability.decode()}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    Changes(tmp_path, setuid=setuid).apply(pieces(out.getvalue()))
    found = (tmp_path / "ping").stat()
    mode = 0o4755 if setuid else 0o755
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12, 34, mode)
    assert ("security.capability" in os.listxattr(tmp_path / "ping")) == setuid


# -- with our layers above -------------------------------------------------------------------------


def test_our_layers_stand_on_what_is_left(tmp_path: Path) -> None:
    """A directory's mode is the highest layer's; what was removed is not known any more."""
    changes, tree = Changes(tmp_path), Tree(tmp_path)
    changes.apply(pieces(tar([*LOWER, directory("closed", 0o500), Member("closed/f", b"c")])))
    changes.apply(pieces(tar([Member(".wh.l"), directory("d/sub", 0o711)])))
    tree.restore(1, changes.whole())
    own = [of_bytes("l", b"a file now"), Entry("d", "dir", 0o750), of_bytes("d/file", b"high")]
    tree.apply(2, pieces(tar_of(own)))
    tree.finish()
    assert contents(tmp_path)["l"] == b"a file now"
    assert contents(tmp_path)["d/file"] == b"high"
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("d", "d/sub", "closed")}
    assert modes == {"d": 0o750, "d/sub": 0o711, "closed": 0o500}


def test_our_layers_write_through_no_link_of_the_base(tmp_path: Path) -> None:
    changes, tree = Changes(tmp_path), Tree(tmp_path)
    changes.apply(pieces(tar(LOWER)))
    tree.restore(0, changes.whole())
    with pytest.raises(IntegrityError, match="a directory in one layer"):
        tree.apply(1, pieces(tar_of([of_bytes("l/file", b"x")])))


# -- cut off and done again ------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "l/a", "l/e/b"])


@st.composite
def layers(draw: st.DrawFn) -> list[list[Member]]:
    """A lowest layer with a directory and a link to it, and changes of any kind above.

    As in real layers: a parent of a path in a layer precedes it there as a directory, or is not in
    it.
    """
    found = [[directory("d"), link("l", "d"), Member("d/a", b"0")]]
    for number in range(draw(st.integers(1, 3))):
        members = []
        names = sorted(draw(st.sets(NAMES, max_size=6)))
        opaque = draw(st.booleans())
        below = [name.replace("l/", "d/") for name in names] + ["d/.wh..wh..opq"] * opaque
        for name in names:
            head, _, tail = name.rpartition("/")
            hidden = f"{head}/.wh.{tail}".lstrip("/")
            content = f"{number} {name}".encode() * draw(st.sampled_from([1, 400]))
            kinds = [directory(name), Member(hidden)]
            if not any(other.startswith(f"{name}/") for other in below):
                kinds += [Member(name, content), link(name, "/x")]
            members.append(draw(st.sampled_from(kinds)))
        if opaque:
            members.insert(draw(st.integers(0, len(members))), Member("d/.wh..wh..opq"))
        found.append(members)
    return found


@given(drawn=layers(), data=st.data())
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_layer_that_was_cut_off_is_put_on_again(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[list[Member]], data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("changes")
    expected = whole(place / "at once", [tar(members) for members in drawn])
    root = place / "in runs"
    root.mkdir()
    records: list[Record] = []
    for members in drawn:
        content = tar(members)
        torn = resumed(root, records)
        with pytest.raises(KeyboardInterrupt):
            torn.apply(cut_off(content[: data.draw(st.integers(0, len(content) - 1))]))
        records.append(resumed(root, records).apply(pieces(content)))
    last = resumed(root, records)
    tree = Tree(root)
    tree.restore(0, last.whole())
    tree.finish()
    assert bundles.tree(root) == expected


def resumed(root: Path, records: Sequence[Record]) -> Changes:
    changes = Changes(root)
    for record in records:
        changes.restore(record)
    return changes


def whole(root: Path, contents: Sequence[bytes]) -> dict[str, tuple[object, ...]]:
    root.mkdir()
    changes, tree = Changes(root), Tree(root)
    for content in contents:
        changes.apply(pieces(content))
    tree.restore(0, changes.whole())
    tree.finish()
    return bundles.tree(root)


def test_the_tar_is_read_to_its_end(tmp_path: Path) -> None:
    read: list[int] = []

    def counted() -> Iterator[bytes]:
        for piece in pieces(tar(LOWER) + bytes(100_000)):
            read.append(len(piece))
            yield piece

    Changes(tmp_path).apply(counted())
    assert sum(read) == len(tar(LOWER)) + 100_000
