"""What is changed of a wheel's files, and what the image states about it."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from images.errors import IntegrityError
from images.formats import wheel_changes, wheel_file
from images.formats.libraries import served_gpus
from images.formats.wheel_changes import Changes, Rules
from images.oci.layer.entry import Entry
from tests.unit import shared_libraries
from tests.unit.fat_binaries import CUBIN, LICENCE, PTX, container, entry, library
from tests.unit.wheels import MakeWheel

SITE = "opt/venv/lib/python3.11/site-packages"
INFO = "demo-1.0.dist-info"
HOPPER = served_gpus.served_by(["9.0"])
CODE = container(entry(CUBIN, 80, b"eighty"), entry(CUBIN, 90, b"ninety"), entry(PTX, 90, b"ptx"))
LIBRARY = library([(".text", b"code" * 9), (".nv_fatbin", CODE)])
ODD = library([(".nv_fatbin", container(entry(9, 90, b"?")))])
FILES = {
    "demo/__init__.py": b"",
    "demo/lib.so": LIBRARY,
    "demo/lib.so.1.2": LIBRARY,
    "demo/plain.so": library([(".text", b"code")]),
    "demo/odd.so": ODD,
    "demo/data.bin": LIBRARY,
    "demo/libdemo.a": b"!<arch>\n",
    "demo/fmhaSm100aKernel_Q.cubin": b"\x7fELF100",
    "demo/gemm_s6_sm90a.cubin": b"\x7fELF90",
    "demo/gemm.cubin": b"\x7fELF",
    f"{INFO}/licenses/LICENSE": LICENCE,
}
FOR_HOPPER = Rules(HOPPER, "Apache-2.0")


def hash_of(content: bytes) -> str:
    digest = hashlib.sha256(content).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def installed(path: Path, changes: Changes | None) -> dict[str, bytes]:
    """The content of each file, read in the order of a layer."""
    with wheel_file.opened(path) as wheel:
        return {one.path: read(one) for one in wheel_file.entries(wheel, (), changes)}


def read(one: Entry) -> bytes:
    with one.open() as stream:
        content = b"".join(iter(lambda: stream.read(100), b""))
    assert len(content) == one.size
    return content


def note(files: dict[str, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files[f"{SITE}/{INFO}/MODIFIED.json"])
    return found


def record(files: dict[str, bytes]) -> dict[str, tuple[str, str]]:
    rows = csv.reader(files[f"{SITE}/{INFO}/RECORD"].decode().splitlines())
    return {path: (digest, size) for path, digest, size in rows}


def test_libraries_lose_foreign_code_and_all_else_stays(make_wheel: MakeWheel) -> None:
    path = make_wheel(FILES)
    published, made = installed(path, None), installed(path, Changes(FOR_HOPPER))
    differing = {name for name in published if made.get(name) != published[name]}
    gone = f"{SITE}/demo/fmhaSm100aKernel_Q.cubin"
    assert published.keys() - made.keys() == {gone}
    assert made.keys() - published.keys() == {f"{SITE}/{INFO}/MODIFIED.json"}
    libraries = {f"{SITE}/demo/lib.so", f"{SITE}/demo/lib.so.1.2"}
    assert differing == {gone, f"{SITE}/{INFO}/RECORD", *libraries}
    kept = container(entry(CUBIN, 90, b"ninety"), entry(PTX, 90, b"ptx")).ljust(len(CODE), b"\0")
    assert made[f"{SITE}/demo/lib.so"] == LIBRARY.replace(CODE, kept)


def test_record_has_the_hashes_of_what_is_installed(make_wheel: MakeWheel) -> None:
    made = installed(make_wheel(FILES), Changes(FOR_HOPPER))
    rows = record(made)
    own = rows.pop(f"{INFO}/RECORD")
    assert own == ("", "")
    assert rows == {
        name.removeprefix(f"{SITE}/"): (hash_of(content), str(len(content)))
        for name, content in made.items()
        if not name.endswith("/RECORD")
    }


def test_record_is_true_for_who_reads_it_first(make_wheel: MakeWheel) -> None:
    path = make_wheel(FILES)
    in_order = installed(path, Changes(FOR_HOPPER))
    with wheel_file.opened(path) as wheel:
        entries = list(wheel_file.entries(wheel, (), Changes(FOR_HOPPER)))
        assert read(entries[-1]) == in_order[f"{SITE}/{INFO}/RECORD"]


def test_note_states_what_was_done_with_the_published_hashes(make_wheel: MakeWheel) -> None:
    found = note(installed(make_wheel(FILES), Changes(FOR_HOPPER)))
    changed = {
        "published": hash_of(LIBRARY),
        "removed": {"sm_80": len(entry(CUBIN, 80, b"eighty"))},
    }
    assert found["gpu_code"] == {"majors": [9], "newest": 90}
    assert found["files"][f"/{SITE}/demo/lib.so"] == changed
    assert found["files"][f"/{SITE}/demo/lib.so.1.2"] == changed
    assert found["left_out"] == {
        f"/{SITE}/demo/fmhaSm100aKernel_Q.cubin": hash_of(b"\x7fELF100"),
    }  # fmt: skip


def test_code_that_is_not_understood_is_reported_and_stays(make_wheel: MakeWheel) -> None:
    lines: list[str] = []
    made = installed(make_wheel(FILES), Changes(FOR_HOPPER, lines.append))
    assert made[f"{SITE}/demo/odd.so"] == ODD
    assert [line for line in lines if "odd.so" in line and "unknown kind 9" in line]
    (fault,) = note(made)["files"][f"/{SITE}/demo/odd.so"]["left_as_published"]
    assert "unknown kind 9" in fault


def test_user_gets_one_line_about_what_is_left_out(make_wheel: MakeWheel) -> None:
    lines: list[str] = []
    files = {name: content for name, content in FILES.items() if content != ODD}
    installed(make_wheel(files), Changes(FOR_HOPPER, lines.append))
    (line,) = lines
    assert line.startswith("left out ")
    assert line.endswith("no GPU of compute capability 9.x can use")


@shared_libraries.needs_gcc
@pytest.mark.parametrize("options", [(), ("-g",)])
def test_pages_and_debug_sections_leave_a_library_that_still_loads(
    make_wheel: MakeWheel, tmp_path: Path, options: tuple[str, ...]
) -> None:
    code = container(entry(CUBIN, 80, b"8" * 300_000), entry(CUBIN, 90, b"9" * 5000))
    library = shared_libraries.linked(tmp_path, code, *options)
    wheel = make_wheel({"demo/lib.so": library.read_bytes(), f"{INFO}/LICENSE": LICENCE})
    rules = FOR_HOPPER._replace(debug=False)
    made = installed(wheel, Changes(rules))
    smaller = made[f"{SITE}/demo/lib.so"]
    described = note(made)["files"][f"/{SITE}/demo/lib.so"]
    assert described["removed"] == {"sm_80": 300_064}
    assert described["smaller_by"] == library.stat().st_size - len(smaller) > 290_000
    assert record(made)["demo/lib.so"] == (hash_of(smaller), str(len(smaller)))
    library.write_bytes(smaller)
    printed, memory = shared_libraries.loaded(library)
    assert "caught 45" in printed
    assert (b"9" * 5000 in memory, b"8" * 5000 in memory) == (True, False)


@shared_libraries.needs_gcc
def test_debug_sections_leave_where_all_gpu_code_stays(
    make_wheel: MakeWheel, tmp_path: Path
) -> None:
    published = shared_libraries.linked(tmp_path, b"", "-g").read_bytes()
    wheel = make_wheel({"demo/lib.so": published, f"{INFO}/LICENSE": LICENCE})
    made = installed(wheel, Changes(Rules(licence="Apache-2.0", debug=False)))
    assert len(made[f"{SITE}/demo/lib.so"]) < len(published) - 3000
    refused = make_wheel({"demo/lib.so": published, f"{INFO}/LICENSE": b"EULA"})
    with pytest.raises(IntegrityError, match="not under Apache"):
        installed(refused, Changes(Rules(licence="Apache-2.0", debug=False)))


def test_wheel_without_gpu_code_is_installed_as_published(make_wheel: MakeWheel) -> None:
    path = make_wheel({"demo/__init__.py": b"", f"{INFO}/LICENSE": LICENCE})
    assert installed(path, Changes(FOR_HOPPER)) == installed(path, None)


def test_other_licence_refuses_the_wheel(make_wheel: MakeWheel) -> None:
    path = make_wheel({**FILES, f"{INFO}/licenses/LICENSE": b"End User License Agreement"})
    with pytest.raises(IntegrityError, match="not under Apache"):
        installed(path, Changes(FOR_HOPPER))


def test_unused_files_are_left_out_whatever_the_licence(make_wheel: MakeWheel) -> None:
    changes = Changes(Rules(unused=(f"/{SITE}/demo/*.a", f"/{SITE}/demo/none-*")))
    path = make_wheel({**FILES, f"{INFO}/licenses/LICENSE": b"End User License Agreement"})
    made = installed(path, changes)
    assert installed(path, None).keys() - made.keys() == {f"{SITE}/demo/libdemo.a"}
    assert made[f"{SITE}/demo/lib.so"] == LIBRARY
    assert "demo/libdemo.a" not in record(made)
    assert note(made)["left_out"] == {f"/{SITE}/demo/libdemo.a": hash_of(b"!<arch>\n")}
    assert changes.idle == [f"/{SITE}/demo/none-*"]


def test_published_hashes_can_be_read_from_the_note(make_wheel: MakeWheel) -> None:
    made = installed(make_wheel(FILES), Changes(FOR_HOPPER))
    found = wheel_changes.published(made[f"{SITE}/{INFO}/MODIFIED.json"].decode())
    assert found[f"{SITE}/demo/lib.so"] == hash_of(LIBRARY)
    assert found[f"{SITE}/demo/fmhaSm100aKernel_Q.cubin"] == hash_of(b"\x7fELF100")


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"files": {"a": 1}}', "[" * 100_000])
def test_foreign_note_says_nothing(text: str) -> None:
    assert wheel_changes.published(text) == {}


def test_damaged_wheel_is_refused_when_its_code_is_looked_at(make_wheel: MakeWheel) -> None:
    wrong = "".join(f"{name},sha256=AAAA,1\n" for name in FILES)
    wrong += f"{INFO}/METADATA,sha256=A,1\n{INFO}/WHEEL,sha256=A,1\n{INFO}/RECORD,,\n"
    path = make_wheel(FILES, record=wrong)
    with pytest.raises(IntegrityError, match="does not have the hash in RECORD"):
        installed(path, Changes(FOR_HOPPER))
