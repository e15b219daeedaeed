"""Wheels: what is installed, the RECORD of it, and every wrong wheel that is refused."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import random
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from images.errors import IntegrityError
from images.formats import wheel_file
from images.inputs.resolve import uv
from images.oci.layer.entry import Entry
from tests.unit.wheels import MakeWheel

SITE = "opt/venv/lib/python3.11/site-packages"
INFO = "demo-1.0.dist-info"

RICH = {
    "demo/__init__.py": b"def main(): print('demo')\n",
    "demo/ext.so": b"\x7fELF",
    "demo/ünïcødé.txt": "ü".encode(),
    'demo/comma, quote".txt': b"x",
    "demo/empty.py": b"",
    "demo-1.0.data/scripts/tool": b"#!python\nprint('tool')\n",
    "demo-1.0.data/scripts/tool.sh": b"#!/bin/sh\necho tool\n",
    "demo-1.0.data/data/share/demo.conf": b"conf",
    "demo-1.0.data/data/bin/data-in-bin": b"data",
    "demo-1.0.data/headers/demo.h": b"int demo;\n",
    "demo-1.0.data/purelib/pure.py": b"pure = 1\n",
    "demo-1.0.data/platlib/plat.py": b"plat = 1\n",
    f"{INFO}/entry_points.txt": b"""[console_scripts]
demo = demo:main
a-first = demo.sub:Class.method [extra]

[gui_scripts]
demo-gui = demo:main

[other.group]
plugin = demo:nothing
""",
    f"{INFO}/licenses/LICENSE": b"free",
    f"{INFO}/RECORDS.md": b"not RECORD",
}
MD5 = base64.urlsafe_b64encode(hashlib.md5(b"\x7fELF").digest()).decode().rstrip("=")
MODES = {"demo/ext.so": 0o100755, "demo/__init__.py": 0o100600}


@pytest.fixture
def rich(make_wheel: MakeWheel) -> Path:
    return make_wheel(RICH, modes=MODES)


def installed(path: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content by path, read as `layer` reads them."""
    found = {}
    with wheel_file.opened(path) as wheel:
        for entry in wheel_file.entries(wheel):
            assert entry.path not in found
            found[entry.path] = (entry.mode, content(entry))
    return found


def content(entry: Entry) -> bytes:
    pieces = []
    with entry.open() as stream:
        while piece := stream.read(7):
            pieces.append(piece)
    whole = b"".join(pieces)
    assert len(whole) == entry.size
    return whole


def rows(record: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(record.decode(), newline="")))


# -- the layout ------------------------------------------------------------------------------------


def test_each_scheme_goes_to_its_place(rich: Path) -> None:
    found = installed(rich)
    places = {
        f"{SITE}/demo/__init__.py": RICH["demo/__init__.py"],
        f"{SITE}/demo/ünïcødé.txt": "ü".encode(),
        f"{SITE}/pure.py": b"pure = 1\n",
        f"{SITE}/plat.py": b"plat = 1\n",
        "opt/venv/share/demo.conf": b"conf",
        "opt/venv/bin/data-in-bin": b"data",
        "opt/venv/include/site/python3.11/demo/demo.h": b"int demo;\n",
        "opt/venv/bin/tool": b"#!/opt/venv/bin/python\nprint('tool')\n",
        "opt/venv/bin/tool.sh": b"#!/bin/sh\necho tool\n",
        f"{SITE}/{INFO}/INSTALLER": b"roll-sglang-images\n",
        f"{SITE}/{INFO}/RECORDS.md": b"not RECORD",
    }
    assert {path: found[path][1] for path in places} == places
    assert not any(".data/" in path for path in found)


def test_only_what_can_be_run_is_executable(rich: Path) -> None:
    executable = {path for path, (mode, _) in installed(rich).items() if mode == 0o755}
    assert executable == {
        f"{SITE}/demo/ext.so",
        *(f"opt/venv/bin/{name}" for name in ("tool", "tool.sh", "demo", "a-first", "demo-gui")),
    }
    assert {mode for mode, _ in installed(rich).values()} == {0o755, 0o644}


def test_entry_points_call_what_they_name_with_the_images_python(rich: Path) -> None:
    found = installed(rich)
    assert "opt/venv/bin/plugin" not in found
    script = found["opt/venv/bin/a-first"][1].decode()
    assert script.startswith("#!/opt/venv/bin/python\n")
    assert "from demo.sub import Class" in script
    assert "Class.method()" in script
    compile(script, "a-first", "exec")


def test_record_lists_exactly_what_is_installed_with_true_hashes(rich: Path) -> None:
    found = installed(rich)
    record = found.pop(f"{SITE}/{INFO}/RECORD")[1]
    listed = {}
    for path, digest, size in rows(record):
        place = (Path("/", SITE) / path).resolve().as_posix()[1:]
        assert place not in listed
        listed[place] = (digest, size)
    assert listed.pop(f"{SITE}/{INFO}/RECORD") == ("", "")
    assert listed == {
        path: (
            "sha256="
            + base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode().rstrip("="),
            str(len(body)),
        )
        for path, (_, body) in found.items()
    }


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="only Python 3.11 has these paths")
def test_uv_installs_the_same_files(rich: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    command = [uv.find(), "pip", "install", "--no-deps", "--no-index", "--no-cache", "--offline"]
    command += ["--link-mode", "copy", "--python", sys.executable, "--prefix", str(prefix)]
    subprocess.run([*command, str(rich)], check=True, capture_output=True)
    ours = {path.removeprefix("opt/venv/"): body for path, (_, body) in installed(rich).items()}
    theirs = {
        path.relative_to(prefix).as_posix(): path.read_bytes()
        for path in prefix.rglob("*")
        if path.is_file()
    }
    own = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
    plain = [path for path in ours | theirs if Path(path).name not in own | {".lock"}]
    assert sorted(path for path in plain if path in theirs) == sorted(plain)
    assert sorted(path for path in plain if path in ours) == sorted(plain)
    for path in plain:
        if not theirs[path].startswith((b"#!/", b"#!'")) or path == "bin/tool.sh":
            assert ours[path] == theirs[path], path
    for path in ours:
        mode = installed(rich)[f"opt/venv/{path}"][0]
        if path in plain and path != "bin/data-in-bin":
            assert bool((prefix / path).stat().st_mode & stat.S_IXUSR) == (mode == 0o755), path


def test_order_of_members_in_the_zip_does_not_show(make_wheel: MakeWheel, tmp_path: Path) -> None:
    first = make_wheel(RICH)
    before = list(installed(first).items())
    record = zipfile.ZipFile(first).read(f"{INFO}/RECORD").decode()
    second = make_wheel(dict(reversed(RICH.items())), record=record)
    assert list(installed(second).items()) == before


def test_content_is_read_when_it_is_needed(rich: Path) -> None:
    with wheel_file.opened(rich) as wheel:
        entries = list(wheel_file.entries(wheel))
        assert {content(entry) for entry in entries if entry.path.endswith("/ext.so")} == {
            b"\x7fELF"
        }


def test_directories_in_the_zip_are_no_files(make_wheel: MakeWheel) -> None:
    path = make_wheel({"demo.py": b""})
    with zipfile.ZipFile(path, "a") as archive:
        archive.mkdir("demo_data/") if hasattr(archive, "mkdir") else archive.writestr("d/", "")
    assert f"{SITE}/demo.py" in installed(path)


@pytest.mark.parametrize("signature", ["RECORD.jws", "RECORD.p7s"])
def test_signature_of_the_former_record_is_left_out(make_wheel: MakeWheel, signature: str) -> None:
    path = make_wheel({})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{INFO}/{signature}", "signed")
    assert f"{SITE}/{INFO}/{signature}" not in installed(path)


# -- wrong wheels ----------------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(IntegrityError) as error:
        installed(path)
    assert error.value.message.startswith(path.name)
    return error.value.message


@pytest.mark.parametrize(
    "member",
    ["demo/__init__.py", "demo-1.0.data/scripts/tool", "demo-1.0.data/data/share/demo.conf",
     f"{INFO}/METADATA", f"{INFO}/entry_points.txt"],
)  # fmt: skip
def test_content_that_record_does_not_vouch_for_is_refused(
    make_wheel: MakeWheel, member: str
) -> None:
    record = zipfile.ZipFile(make_wheel(RICH)).read(f"{INFO}/RECORD").decode()
    original = zipfile.ZipFile(make_wheel(RICH)).read(member)
    altered = make_wheel({**RICH, member: original + b"\n# more\n"}, record=record)
    assert f"{member}: its content does not have the hash" in refused(altered)


def misrecorded(path: Path) -> dict[str, bytes]:
    with wheel_file.opened(path, misrecorded=True) as wheel:
        return {entry.path: content(entry) for entry in wheel_file.entries(wheel)}


def test_wheel_that_is_known_to_misrecord_gets_a_true_record(make_wheel: MakeWheel) -> None:
    record = zipfile.ZipFile(make_wheel(RICH)).read(f"{INFO}/RECORD").decode()
    files = {**RICH, "demo/__init__.py": b"other = 1\n"}
    found = misrecorded(make_wheel(files, record=record))
    assert found[f"{SITE}/demo/__init__.py"] == b"other = 1\n"
    with wheel_file.opened(make_wheel(files)) as wheel:
        true = {entry.path: content(entry) for entry in wheel_file.entries(wheel)}
    assert found[f"{SITE}/{INFO}/RECORD"] == true[f"{SITE}/{INFO}/RECORD"]


def test_wheel_whose_record_is_right_is_not_to_be_listed_as_wrong(rich: Path) -> None:
    with pytest.raises(IntegrityError, match="its RECORD is correct") as caught:
        misrecorded(rich)
    assert "misrecorded" in str(caught.value.remedy)


def test_size_that_the_zip_misstates_is_refused(make_wheel: MakeWheel) -> None:
    path = make_wheel({"demo.py": b"x = 1\n" * 100})
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    at = raw.index(b"demo.py", start) - 46 + 24  # the central directory's uncompressed size
    assert int.from_bytes(raw[at : at + 4], "little") == 600
    raw[at : at + 4] = (599).to_bytes(4, "little")
    path.write_bytes(raw)
    refused(path)


def test_wheel_without_its_first_bytes_is_refused(rich: Path) -> None:
    for gone in (1, 64, 500):
        rich.write_bytes(rich.read_bytes()[gone:])
        assert "not a valid wheel" in refused(rich)


def broken(make_wheel: MakeWheel, change: Callable[[list[str]], list[str]]) -> Path:
    record = zipfile.ZipFile(make_wheel(RICH)).read(f"{INFO}/RECORD").decode()
    return make_wheel(RICH, record="\n".join(change(record.splitlines())) + "\n")


def test_member_that_record_does_not_list_is_refused(make_wheel: MakeWheel) -> None:
    path = broken(make_wheel, lambda lines: [line for line in lines if "ext.so" not in line])
    assert "demo/ext.so: not in RECORD" in refused(path)


def test_member_that_record_lists_and_the_wheel_lacks_is_refused(make_wheel: MakeWheel) -> None:
    path = broken(make_wheel, lambda lines: [*lines, "demo/gone.py,sha256=abc,3"])
    assert "demo/gone.py: in RECORD, but not in the wheel" in refused(path)


@pytest.mark.parametrize(
    "hashed",
    [f"md5={MD5}", "", "nonsense", "sha256=", "sha256=!!!", "sha9=x", "shake_128=abcd",
               "sha256=é"]
)  # fmt: skip
def test_member_without_a_hash_that_counts_is_refused(make_wheel: MakeWheel, hashed: str) -> None:
    path = broken(
        make_wheel,
        lambda lines: [f"demo/ext.so,{hashed},4" if "ext.so" in line else line for line in lines],
    )
    refused(path)


@pytest.mark.parametrize("line", ["one", "a,b", "a,b,c,d", '"open'])
def test_record_that_is_not_a_table_is_refused(make_wheel: MakeWheel, line: str) -> None:
    refused(broken(make_wheel, lambda lines: [*lines, line]))


@pytest.mark.parametrize(
    "member",
    ["../evil.py", "/etc/evil", "demo/../../evil", "demo\\evil.py", "C:\\evil", "demo//evil.py",
     "./evil.py", "demo/./evil.py", "demo-1.0.data/data/../../evil",
     "demo-1.0.data/nowhere/evil", "demo-1.0.data/evil"],
)  # fmt: skip
def test_member_that_leaves_the_prefix_is_refused(make_wheel: MakeWheel, member: str) -> None:
    refused(make_wheel({member: b"evil"}))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_member_that_is_no_file_is_refused(make_wheel: MakeWheel, kind: int) -> None:
    path = make_wheel({"demo/link": b"/etc/passwd"}, modes={"demo/link": kind | 0o777})
    assert "a link or device" in refused(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_that_comes_twice_is_refused(make_wheel: MakeWheel) -> None:
    path = make_wheel({"demo.py": b""})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("demo.py", "evil")
    assert "demo.py: occurs twice" in refused(path)


def test_missing_or_second_metadata_directory_is_refused(
    make_wheel: MakeWheel, tmp_path: Path
) -> None:
    assert "dist-info" in refused(make_wheel({"other-1.0.dist-info/METADATA": b""}))
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("demo.py", "")
    assert "dist-info" in refused(path)


@pytest.mark.parametrize("missing", ["WHEEL", "RECORD"])
def test_missing_metadata_file_is_refused(
    make_wheel: MakeWheel, tmp_path: Path, missing: str
) -> None:
    source = zipfile.ZipFile(make_wheel(RICH))
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for info in source.infolist():
            if info.filename != f"{INFO}/{missing}":
                archive.writestr(info, source.read(info))
    assert missing in refused(path)


@pytest.mark.parametrize("version", ["2.0", "0.9", "10.0", "", "one"])
def test_wheel_of_another_format_is_refused(make_wheel: MakeWheel, version: str) -> None:
    text = f"Wheel-Version: {version}\nRoot-Is-Purelib: true\n".encode()
    assert "Wheel-Version" in refused(make_wheel({f"{INFO}/WHEEL": text}))


def test_metadata_of_another_distribution_is_refused(make_wheel: MakeWheel) -> None:
    path = make_wheel({})
    refused(path.rename(path.with_name("other-1.0-py3-none-any.whl")))


@pytest.mark.parametrize("name", ["demo.whl", "demo-1.0.zip", "demo-1.0-py3.whl"])
def test_file_that_is_not_named_as_a_wheel_is_refused(make_wheel: MakeWheel, name: str) -> None:
    path = make_wheel({})
    refused(path.rename(path.with_name(name)))


@pytest.mark.parametrize(
    "text",
    [b"no section", b"[console_scripts]\nname", b"[console_scripts]\nname = module",
     b"[console_scripts]\nname = %(x)s:f", b"[console_scripts]\na = b:c\na = d:e",
     b"[console_scripts]\nname = a b:c", b"\xff"],
)  # fmt: skip
def test_entry_points_that_cannot_be_read_are_refused(make_wheel: MakeWheel, text: bytes) -> None:
    refused(make_wheel({f"{INFO}/entry_points.txt": text}))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06" + bytes(18)])
def test_what_is_not_a_wheel_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    path.write_bytes(content)
    refused(path)


def test_every_truncation_is_refused(rich: Path) -> None:
    whole = rich.read_bytes()
    for length in range(0, len(whole) - 1, 13):
        rich.write_bytes(whole[:length])
        refused(rich)


def test_encrypted_wheel_is_refused(make_wheel: MakeWheel) -> None:
    path = make_wheel({"demo.py": b"x = 1\n"})
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := raw.find(signature, at + 1)) >= 0:
            raw[at + offset] |= 1  # "encrypted"
    path.write_bytes(raw)
    assert "encrypted" in refused(path)


def test_no_flipped_bit_changes_what_is_installed_unnoticed(make_wheel: MakeWheel) -> None:
    path = make_wheel({k: v for k, v in RICH.items() if '"' not in k})
    whole, good = path.read_bytes(), installed(path)
    rng = random.Random(11)
    caught = 0
    for _ in range(600):
        raw = bytearray(whole)
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(raw)
        try:
            found = installed(path)
        except IntegrityError:
            caught += 1
            continue
        contents = {name: body for name, (_, body) in found.items()}
        assert contents == {name: body for name, (_, body) in good.items()}
    assert caught > 300


def test_a_script_that_an_entry_point_replaces_is_left_out_as_by_installers(
    make_wheel: MakeWheel,
) -> None:
    points = {f"{INFO}/entry_points.txt": b"[console_scripts]\ntool = demo:main\n"}
    found = installed(make_wheel({**RICH, **points}))
    assert b"from demo import main" in found["opt/venv/bin/tool"][1]
    assert b"tool" in found["opt/venv/bin/tool.sh"][1]
    rows = list(csv.reader(io.StringIO(found[f"{SITE}/{INFO}/RECORD"][1].decode())))
    assert [row[0] for row in rows].count("../../../bin/tool") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [("[console_scripts]\nx = demo\n", "'x = demo'"),
     ("[console_scripts]\nok = demo:x\nx = os;import sys:y\n", "'x = os;import sys:y'"),
     ("[gui_scripts]\nx = demo:main()\n", "'x = demo:main()'"),
     ("[console_scripts]\nx = a:b\nx = c:d\n", "already exists"),
     ("no section\n", "no section headers"),
     ("[console_scripts]\n../../bin/sh = a:b\n", "'../../bin/sh'"),
     ("[console_scripts]\n.. = a:b\n", "'..'"),
     ("[console_scripts]\nx\x1b[2J = a:b\n", "name of a program"),
     ("[console_scripts]\nx = a:b\n[gui_scripts]\nx = c:d\n", "'x' is a:b and c:d")],
)  # fmt: skip
def test_malformed_entry_points_are_refused_with_the_line_and_a_remedy(
    make_wheel: MakeWheel, text: str, message: str
) -> None:
    path = make_wheel({f"{INFO}/entry_points.txt": text.encode()})
    with pytest.raises(IntegrityError) as caught:
        installed(path)
    assert caught.value.message.startswith(f"{path.name}: its entry_points.txt is malformed: ")
    assert message in caught.value.message
    assert "another version" in str(caught.value.remedy)


def test_one_function_as_console_and_gui_script_is_one_script(make_wheel: MakeWheel) -> None:
    text = b"[console_scripts]\nx = a:b\n[gui_scripts]\nx = a:b\n"
    assert "opt/venv/bin/x" in installed(make_wheel({f"{INFO}/entry_points.txt": text}))


WRONG_RECORDS: dict[str, Callable[[str], str]] = {
    "omits a file": lambda text: text.replace(text[text.index("demo/ext.so") :].split("\n")[0], ""),
    "invents a file": lambda text: f"demo/gone.py,sha256={'A' * 43},1\n{text}",
    "gives no hash": lambda text: text.replace(
        text[text.index("demo/ext.so") :].split("\n")[0], "demo/ext.so,,"
    ),
    "gives a weak hash": lambda text: text.replace(
        text[text.index("demo/ext.so") :].split("\n")[0], f"demo/ext.so,md5={MD5},4"
    ),
    "gives another hash": lambda text: text.replace(
        text[text.index("demo/ext.so") :].split("\n")[0], f"demo/ext.so,sha256={'A' * 43},4"
    ),
    "gives another hash of a script": lambda text: text.replace(
        text[text.index("demo-1.0.data/scripts/tool,") :].split("\n")[0],
        f"demo-1.0.data/scripts/tool,sha256={'A' * 43},4",
    ),
    "has a line of other form": lambda text: f"demo/ext.so\n{text}",
    "has a hash of other form": lambda text: f"demo/ext.so,nonsense,1\n{text}",
    "is empty": lambda text: "",
}


@pytest.mark.parametrize("fault", WRONG_RECORDS)
def test_every_fault_of_record_names_the_word_that_allows_it_and_is_allowed_by_it(
    make_wheel: MakeWheel, fault: str
) -> None:
    true = misread(make_wheel(RICH))
    with zipfile.ZipFile(make_wheel(RICH)) as archive:
        record = WRONG_RECORDS[fault](archive.read(f"{INFO}/RECORD").decode())
    path = make_wheel(RICH, record=record)
    with pytest.raises(IntegrityError) as caught:
        installed(path)
    assert caught.value.message.startswith(path.name)
    assert "`misrecorded:`" in str(caught.value.remedy)
    assert misrecorded(path) == true


def misread(path: Path) -> dict[str, bytes]:
    """What a wheel with a right RECORD installs."""
    return {name: body for name, (_, body) in installed(path).items()}


def test_a_wheel_without_record_is_one_that_is_misrecorded(make_wheel: MakeWheel) -> None:
    true = misread(make_wheel(RICH))
    path = make_wheel(RICH)
    with zipfile.ZipFile(path) as archive:
        whole = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in whole.items():
            if not name.endswith("/RECORD"):
                archive.writestr(name, body)
    with pytest.raises(IntegrityError) as caught:
        installed(path)
    assert "`misrecorded:`" in str(caught.value.remedy)
    assert misrecorded(path) == true


@pytest.mark.parametrize(
    "member",
    ["demo/.wh.data", "demo/.wh..wh..opq", ".wh.demo", "demo/.wh.x/y",
     "demo-1.0.data/data/.wh.bin", "demo-1.0.data/scripts/.wh.python"],
)  # fmt: skip
def test_the_name_of_a_whiteout_is_refused_by_the_wheels_name(
    make_wheel: MakeWheel, member: str
) -> None:
    assert f"{member}: named like a whiteout" in refused(make_wheel({**RICH, member: b"x"}))
    installed(make_wheel({**RICH, "demo/x.wh.y": b"", "demo/.whx": b""}))
