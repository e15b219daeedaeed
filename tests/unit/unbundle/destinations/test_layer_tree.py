"""Layers as files, in any order: the highest wins, as if they had come lowest first."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from images.errors import IntegrityError
from images.oci.layer.entry import Entry, of_bytes, of_symlink
from images.unbundle.destinations.layer_tree import Tree
from images.unbundle.destinations.member_files import Record
from tests.unit import bundles
from tests.unit.layers import cut_off, pieces, tar_of


def applied(root: Path, layers: Sequence[bytes], order: Sequence[int]) -> dict[str, object]:
    root.mkdir()
    tree = Tree(root)
    for number in order:
        tree.apply(number, pieces(layers[number]))
    tree.finish()
    return dict(bundles.tree(root))


@st.composite
def images(draw: st.DrawFn) -> list[bytes]:
    """Layers that share paths; a path is a directory in all of them or in none."""
    layers = []
    for number in range(draw(st.integers(2, 4))):
        entries: list[Entry] = []
        for name in draw(st.lists(st.sampled_from("abc"), unique=True, max_size=3)):
            path = f"{draw(st.sampled_from(['one', 'two/deep']))}/{name}"
            if draw(st.booleans()):
                entries.append(
                    of_bytes(path, f"{number} {name}".encode() * draw(st.integers(0, 99)))
                )
                if draw(st.booleans()):
                    entries.append(Entry(f"links/{name}", "hardlink", target=path))
            else:
                entries.append(of_symlink(path, f"to {number}"))
        if draw(st.booleans()):
            mode = draw(st.sampled_from([0o700, 0o750, 0o500]))
            entries.insert(0, Entry("one", "dir", mode, uid=number))
        layers.append(tar_of(entries))
    return layers


@given(layers=images(), data=st.data())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_order_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, layers: list[bytes], data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("trees")
    order = data.draw(st.permutations(range(len(layers))))
    expected = applied(place / "in order", layers, range(len(layers)))
    assert applied(place / "as drawn", layers, order) == expected


@given(layers=images(), data=st.data())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_order_does_not_matter_over_several_runs(
    tmp_path_factory: pytest.TempPathFactory, layers: list[bytes], data: st.DataObject
) -> None:
    """Each layer in a run of its own, and before it one that was cut off in its middle."""
    place = tmp_path_factory.mktemp("trees")
    order = data.draw(st.permutations(range(len(layers))))
    expected = applied(place / "in order", layers, range(len(layers)))
    root = place / "in runs"
    root.mkdir()
    records: dict[int, Record] = {}
    for number in order:
        for cut in (data.draw(st.integers(0, len(layers[number]) - 1)), None):
            tree = Tree(root, resumed=True)
            for done, record in records.items():
                tree.restore(done, record)
            if cut is None:
                records[number] = tree.apply(number, pieces(layers[number]))
            else:
                with pytest.raises(KeyboardInterrupt):
                    tree.apply(number, cut_off(layers[number][:cut]))
    tree = Tree(root, resumed=True)
    for done, record in records.items():
        tree.restore(done, record)
    tree.finish()
    assert dict(bundles.tree(root)) == expected


@pytest.mark.parametrize("large", [0, 2000])
def test_a_higher_layer_covers_a_file_while_its_layer_is_at_work(
    tmp_path: Path, large: int
) -> None:
    """The lower layer links to it afterwards, and while it is being written."""
    lower = tar_of(
        [of_bytes("d/file", b"low" * 1000), Entry("d/link", "hardlink", target="d/file")]
    )
    upper = tar_of([of_bytes("d/file", b"high")])
    tree = Tree(tmp_path)

    def interleaved() -> Iterator[bytes]:
        # Heads of d and d/file and some of its content; or all of it.
        first = 1024 + 512 + (large or 3072)
        yield lower[:first]
        tree.apply(1, pieces(upper))
        yield lower[first:]

    tree.apply(0, interleaved())
    tree.finish()
    assert (tmp_path / "d/file").read_bytes() == b"high"
    assert (tmp_path / "d/link").read_bytes() == b"low" * 1000
    assert {path.name for path in tmp_path.iterdir()} == {"d"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("other", [of_bytes("x", b"f"), of_symlink("x", "/etc")])
def test_a_directory_here_and_something_else_there_is_refused(
    tmp_path: Path, order: tuple[int, int], other: Entry
) -> None:
    layers = [tar_of([Entry("x", "dir", 0o755)]), tar_of([other])]
    with pytest.raises(IntegrityError, match="x: a directory in one layer"):
        applied(tmp_path / "root", layers, order)


def test_a_planted_place_for_covered_files_is_not_used(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (root / ".unpack-covered").symlink_to(outside)
    tree = Tree(root, resumed=True)
    tree.apply(1, pieces(tar_of([of_bytes("a", b"high")])))
    with pytest.raises(IntegrityError, match="not a directory of the unpacker's"):
        tree.apply(0, pieces(tar_of([of_bytes("a", b"low")])))
    assert not list(outside.iterdir())


def test_the_tar_is_read_to_its_end(tmp_path: Path) -> None:
    """Its digest is checked there: a trailer must not hide bytes from the check."""
    read = []

    def counted() -> Iterator[bytes]:
        for piece in pieces(tar_of([of_bytes("a", b"1")]) + bytes(100_000)):
            read.append(len(piece))
            yield piece

    Tree(tmp_path).apply(0, counted())
    assert sum(read) == len(tar_of([of_bytes("a", b"1")])) + 100_000


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100, b"\xff" * 512])
def test_what_is_not_a_tar_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(IntegrityError, match="not a tar"):
        Tree(tmp_path).apply(0, pieces(content))
    assert not os.listdir(tmp_path)  # noqa: PTH208


def test_cut_off_content_is_refused(tmp_path: Path) -> None:
    content = tar_of([of_bytes("a", b"x" * 5000)])
    with pytest.raises(IntegrityError, match="truncated"):
        Tree(tmp_path).apply(0, pieces(content[:3000]))
