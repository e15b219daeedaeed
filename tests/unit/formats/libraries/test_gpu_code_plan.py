"""GPU code that no served GPU can load leaves a library; nothing else in it changes."""

from __future__ import annotations

import io
from typing import IO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.formats.libraries import gpu_code_plan, served_gpus
from images.formats.libraries.changed_stream import ChangedStream
from images.formats.libraries.gpu_code_plan import Plan
from images.formats.libraries.served_gpus import Served
from tests import chance
from tests.unit.fat_binaries import CUBIN, PTX, container, entry, library

HOPPER = served_gpus.served_by(["9.0"])
CUDA_12 = served_gpus.served_by(["8.0", "8.6", "8.9", "9.0"])

SM_70 = entry(CUBIN, 70, b"seventy " * 9)
SM_80 = entry(CUBIN, 80, b"eighty!!" * 7)
SM_90 = entry(CUBIN, 90, b"ninety!!" * 5)
SM_100 = entry(CUBIN, 100, b"hundred!" * 30)
PTX_90 = entry(PTX, 90, b".target sm_90")
PTX_120 = entry(PTX, 120, b".target sm_120")
TEXT = (".text", bytes(range(256)) * 4)


def plan_of(content: bytes, served: Served = HOPPER) -> Plan:
    return gpu_code_plan.plan(lambda: io.BytesIO(content), len(content), served)


def changed(content: bytes, served: Served = HOPPER) -> bytes:
    """The library as it is installed."""
    plan = plan_of(content, served)
    if not plan.pieces:
        return content
    return ChangedStream(cast(IO[bytes], io.BytesIO(content)), plan.pieces).read()


def with_code(*containers: bytes, section: str = ".nv_fatbin") -> bytes:
    return library([TEXT, (section, b"".join(containers)), (".data", b"data")])


def expected(*entries: bytes, of: bytes) -> bytes:
    """A container with these entries in front, as long as another one."""
    return container(*entries).ljust(len(of), b"\0")


def test_cubins_of_other_majors_leave_and_the_rest_moves_to_the_front() -> None:
    whole = container(SM_70, SM_80, SM_90, SM_100)
    content = with_code(whole)
    assert changed(content, CUDA_12) == content.replace(whole, expected(SM_80, SM_90, of=whole))
    assert changed(content) == content.replace(whole, expected(SM_90, of=whole))


def test_minor_versions_of_a_served_major_stay() -> None:
    content = with_code(container(entry(CUBIN, 86, b"x"), entry(CUBIN, 89, b"y")))
    assert not plan_of(content, served_gpus.served_by(["8.0"])).pieces


def test_ptx_stays_unless_it_is_for_later_gpus_than_all_served() -> None:
    whole = container(SM_90, PTX_90, PTX_120)
    content = with_code(whole)
    assert changed(content) == content.replace(whole, expected(SM_90, PTX_90, of=whole))
    assert not plan_of(content, served_gpus.served_by(["9.0", "12.0"])).pieces


def test_plan_says_what_leaves_and_where_zeros_are() -> None:
    whole = container(SM_70, SM_90, SM_100, PTX_120)
    content = with_code(whole)
    plan = plan_of(content)
    start = content.index(whole) + 16 + len(SM_90)
    assert plan.removed == {
        "compute_120": len(PTX_120), "sm_100": len(SM_100), "sm_70": len(SM_70),
    }  # fmt: skip
    assert plan.dead == ((start, len(whole) - 16 - len(SM_90)),)
    assert not any(changed(content)[start : start + plan.dead[0][1]])


def test_container_that_keeps_nothing_is_empty() -> None:
    whole = container(SM_70)
    content = with_code(whole)
    assert changed(content) == content.replace(whole, expected(of=whole))


@pytest.mark.parametrize("front_table", [False, True])
def test_both_sections_are_read_wherever_the_table_is(front_table: bool) -> None:
    one, other = container(SM_70, SM_90), container(SM_100, SM_80)
    sections = [(".nv_fatbin", one), TEXT, ("__nv_relfatbin", other)]
    content = library(sections, front_table=front_table)
    made = content.replace(one, expected(SM_90, of=one)).replace(other, expected(of=other))
    assert changed(content) == made


def test_containers_in_other_sections_stay() -> None:
    assert not plan_of(with_code(container(SM_70, SM_90), section=".rodata")).pieces


def test_container_inside_a_payload_is_not_one() -> None:
    inner = container(SM_70, SM_90)
    whole = container(entry(CUBIN, 90, inner), SM_70)
    content = with_code(whole)
    made = content.replace(whole, expected(entry(CUBIN, 90, inner), of=whole))
    assert changed(content) == made


GOOD = container(SM_70, SM_90)
DAMAGED = {
    "unknown kind": container(SM_70, entry(7, 90, b"?")),
    "kind 0": container(SM_70, entry(0, 90, b"?")),
    "other version": container(SM_70, version=2),
    "entry that overruns": container(SM_70, entry(CUBIN, 70, b"x" * 8, size=4096)),
    "size of no whole head": container(SM_70, SM_90, size=len(SM_70) + 20),
    "size beyond the file": container(SM_70, size=1 << 40),
    "size up to the next entry": container(SM_70, SM_90, size=len(SM_70)),
    "size of nothing": container(SM_70, size=0),
    "too many entries": container(*[entry(CUBIN, 70, b"")] * 1001),
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=list(DAMAGED))
def test_damaged_container_stays_byte_for_byte_and_is_reported(damaged: bytes) -> None:
    content = with_code(GOOD, damaged, GOOD)
    plan, made = plan_of(content), changed(content)
    at = content.index(damaged)
    assert len(plan.faults) == 1
    assert f"the container at {at} of .nv_fatbin: " in plan.faults[0]
    assert made[at : at + len(damaged)] == damaged
    assert made[at - len(GOOD) : at] == expected(SM_90, of=GOOD)
    behind = content[at + len(damaged) :]
    assert made[at + len(damaged) :] in (behind, behind.replace(GOOD, expected(SM_90, of=GOOD)))


def test_file_of_nothing_but_beginnings_takes_little() -> None:
    content = with_code(container(b"")[:8] * 200_000)
    assert len(plan_of(content).faults) == 1


def test_container_behind_one_of_unknown_kind_is_read() -> None:
    content = with_code(DAMAGED["unknown kind"], GOOD)
    assert changed(content) == content.replace(GOOD, expected(SM_90, of=GOOD))


def test_section_that_does_not_begin_with_a_container_stays() -> None:
    content = with_code(b"no magic", GOOD)
    plan = plan_of(content)
    assert not plan.pieces
    assert plan.faults == (f"at {content.index(b'no magic')} of .nv_fatbin: not a container",)


def test_section_longer_than_the_file_is_reported() -> None:
    content = with_code(GOOD)[:-64]  # without the last row of the table of sections
    assert plan_of(content).faults == ("it ends before its sections do",)


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"plain text" * 100, b"!<arch>\n" + GOOD])
def test_other_files_stay(content: bytes) -> None:
    plan = plan_of(content)
    assert not plan.pieces
    assert not plan.faults


@pytest.mark.parametrize("text", ["", "9", "90", "9.10", "sm_90", "9.x"])
def test_what_is_no_compute_capability_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="compute capability"):
        served_gpus.served_by([text])


ENTRIES = st.tuples(
    st.sampled_from([PTX, CUBIN]),
    st.sampled_from([50, 61, 75, 80, 86, 89, 90, 100, 103, 120]),
    st.binary(max_size=40),
).map(lambda one: entry(*one))
CONTAINERS = st.lists(ENTRIES, max_size=5).map(lambda found: container(*found))
PARTS = st.one_of(CONTAINERS, st.sampled_from(list(DAMAGED.values())))


@settings(max_examples=chance.times(150, 5000), deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([".nv_fatbin", "__nv_relfatbin", ".rodata"]),
                       st.lists(PARTS, max_size=4)), max_size=4),
    st.sampled_from([HOPPER, CUDA_12]), st.booleans(), st.integers(1, 5000),
)  # fmt: skip
def test_no_byte_outside_of_containers_changes(
    parts: list[tuple[str, list[bytes]]], served: Served, front: bool, step: int
) -> None:
    sections = [(name, b"".join(found)) for name, found in parts]
    content = library([TEXT, *sections], front_table=front)
    plan = plan_of(content, served)
    if not plan.pieces:
        return
    stream = ChangedStream(cast(IO[bytes], io.BytesIO(content)), plan.pieces)
    made = b"".join(iter(lambda: stream.read(step), b""))
    assert len(made) == len(content)
    inside = bytearray(len(content))
    for name, found in sections:
        start = content.find(found) if name != ".rodata" else -1
        while found and start >= 0:
            inside[start : start + len(found)] = b"\1" * len(found)
            start = content.find(found, start + 1)
    outside = [at for at, byte in enumerate(inside) if not byte]
    assert [made[at] for at in outside] == [content[at] for at in outside]
    assert not any(any(made[start : start + length]) for start, length in plan.dead)
    assert not plan_of(made, served).removed


WHOLE = with_code(GOOD, container(SM_100, PTX_90), GOOD)


@settings(max_examples=chance.times(300, 20_000), deadline=None)
@given(
    st.dictionaries(st.integers(0, len(WHOLE) - 1), st.integers(0, 255), min_size=1, max_size=4),
    st.integers(0, len(WHOLE)),
)
def test_any_bytes_and_any_end_make_a_plan(damage: dict[int, int], end: int) -> None:
    content = bytearray(WHOLE)
    for at, byte in damage.items():
        content[at] = byte
    for damaged in (bytes(content), bytes(content[:end])):
        assert len(changed(damaged)) == len(damaged)
