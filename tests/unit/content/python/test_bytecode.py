"""Byte code: the same bytes whatever was compiled before, used until its source is edited."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import os
import random
import struct
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from images import image_paths
from images.content.python import bytecode
from images.content.python.bytecode import Compiler
from images.errors import ToolError
from images.oci.layer import tar_header, writer
from images.oci.layer.entry import Entry, of_bytes, of_symlink
from images.unbundle.destinations.layer_tree import Tree

pytestmark = pytest.mark.skipif(
    "{}.{}".format(*sys.version_info) != image_paths.PYTHON,
    reason=f"needs Python {image_paths.PYTHON}, the image's; this is {sys.version.split()[0]}",
)

COMMAND = (sys.executable, "-I", "-S")
SITE = image_paths.SITE_PACKAGES
STDLIB = Path(sysconfig.get_paths()["stdlib"])

# A name of one letter is interned for the rest of its process, and marshal writes an interned
# constant in another way.
MARKING = "é = 1\n".encode()
MARKED = "x = 'é'\n".encode()
CODEC = b"# -*- coding: cp1252 -*-\nx = '\xe9'\n"
SETS = b"def f(x):\n    return x in {'one', 'two', 'three', None, 4, (5, 'six'), b'seven'}\n"


def compiled(command: Sequence[str], sources: Sequence[bytes], **env: str) -> list[bytes]:
    with Compiler(command, env) as compiler:
        return each(compiler, sources)


def each(compiler: Compiler, sources: Sequence[bytes], path: str = "/opt/a.py") -> list[bytes]:
    """Sent ahead as far as the pipe takes it, to one process of the compiler's."""
    found: list[bytes] = []
    with compiler.worker() as worker:
        for source in sources:
            while not worker.takes(path, source):
                found.append(worker.answer())
            worker.ask(path, source)
        while len(found) < len(sources):
            found.append(worker.answer())
    return found


def run(code: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={"PATH": os.environ["PATH"]},  # the whole one may forbid to write byte code
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


# -- determinism -----------------------------------------------------------------------------------


@pytest.mark.parametrize("marking", [MARKING, CODEC, b"x = '\\N{BULLET}'\n", b"not python", b""])
def test_what_was_compiled_before_does_not_show(marking: bytes) -> None:
    fresh = compiled(COMMAND, [MARKED])
    assert compiled(COMMAND, [marking, MARKED])[1:] == fresh
    assert compiled(COMMAND, [MARKED, marking, MARKED, MARKED]) == [
        *fresh, *compiled(COMMAND, [marking]), *fresh, *fresh
    ]  # fmt: skip


def test_marking_source_would_show_in_one_process(tmp_path: Path) -> None:
    """Without care the bytes differ: else the test above proves nothing."""
    code = (
        "import marshal\n"
        f"one = marshal.dumps(compile({MARKED!r}, 'a', 'exec'))\n"
        f"compile({MARKING!r}, 'b', 'exec')\n"
        f"print(one == marshal.dumps(compile({MARKED!r}, 'a', 'exec')))"
    )
    assert run(code, tmp_path) == "False"


def test_order_of_many_real_sources_does_not_show() -> None:
    chosen = [path for path in STDLIB.glob("*.py") if path.stat().st_size < 40_000]
    chosen += [STDLIB / "html" / "entities.py", *(STDLIB / "encodings").glob("cp12*.py")]
    sources = [path.read_bytes() for path in sorted(chosen)] + [MARKING, CODEC, MARKED]
    order = random.Random(1).sample(range(len(sources)), len(sources))
    first = compiled(COMMAND, sources)
    second = compiled(COMMAND, [sources[index] for index in order], LANG="C", HOME="/nonexistent")
    assert len(sources) > 100
    assert [first[index] for index in order] == second


def test_hash_seed_and_thread_do_not_show() -> None:
    sources = [SETS, MARKED]
    one, two = (compiled(COMMAND, sources) for _ in range(2))
    seeded = compiled((sys.executable, "-S"), sources, PYTHONHASHSEED="7")
    assert one == two == seeded
    with Compiler(COMMAND, {}) as compiler, ThreadPoolExecutor(3) as pool:
        work = [pool.submit(each, compiler, [SETS]) for _ in range(30)]
        assert {code for future in work for code in future.result()} == {one[0]}


# -- what comes out --------------------------------------------------------------------------------


def test_pyc_is_that_of_pythons_own_for_the_time_that_layers_give() -> None:
    source = b"x = 1\n" * 100
    (code,) = compiled(COMMAND, [source])
    assert code[:4] == importlib.util.MAGIC_NUMBER
    flags, mtime, size = struct.unpack("<III", code[4:16])
    assert (flags, mtime, size) == (0, tar_header.MTIME, len(source))


# Prints a module's value, which files Python opened for it, and whether it compiled.
TAKEN = """
import importlib.machinery as machinery, json, sys
opened = []
class Loader(machinery.SourceFileLoader):
    def get_data(self, path):
        opened.append(path.rpartition("/")[2])
        return super().get_data(path)
    def source_to_code(self, *args, **options):
        opened.append("compiled")
        return super().source_to_code(*args, **options)
sys.path_hooks.insert(0, machinery.FileFinder.path_hook((Loader, [".py"])))
sys.path_importer_cache.clear()
import mod
print(json.dumps([mod.where, opened]))
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A source and its byte code as a layer, unpacked by the unpacker of bundles."""
    out = io.BytesIO()
    with Compiler(COMMAND, {}) as compiler:
        source = of_bytes(f"{SITE}/mod.py", b"where = 'image'\n")
        link = of_symlink(f"{SITE}/linked.py", "mod.py")
        writer.write(bytecode.compiled([source, link], compiler), out, "gzip")
    Tree(tmp_path).apply(0, iter([gzip.decompress(out.getvalue())]))
    return tmp_path / SITE


def taken(site: Path, module: str = "mod") -> tuple[str, list[str]]:
    where, opened = json.loads(run(TAKEN.replace("mod", module), site))
    return where, opened


def files(site: Path) -> dict[Path, tuple[int, bytes]]:
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in site.rglob("*") if p.is_file()}


@pytest.mark.parametrize("module", ["mod", "linked"])
def test_untouched_source_is_not_even_read_and_nothing_is_written(site: Path, module: str) -> None:
    before = files(site)
    assert taken(site, module) == ("image", [f"{module}.cpython-311.pyc"])
    assert files(site) == before


def edit_in_place(path: Path) -> None:
    subprocess.run(["sed", "-i", "s/image/EDITS/", path], check=True)


def copy_over(path: Path) -> None:
    """Of an older date, as a checkout may be."""
    new = path.with_suffix(".new")
    new.write_text("where = 'EDITS'\n")
    os.utime(new, (315_532_800, 315_532_800))
    subprocess.run(["cp", "-p", new, path], check=True)
    new.unlink()


@pytest.mark.parametrize("edit", [edit_in_place, copy_over])
@pytest.mark.parametrize("module", ["mod", "linked"])
def test_edited_source_counts_even_with_the_same_length(
    site: Path, edit: Callable[[Path], None], module: str
) -> None:
    edit(site / "mod.py")
    where, opened = taken(site, module)
    assert (where, opened[-1]) == ("EDITS", "compiled")
    # Python has written byte code of its own, which it takes the next time.
    assert taken(site, module) == ("EDITS", [f"{module}.cpython-311.pyc"])


def test_trace_names_the_path_in_the_image() -> None:
    (code,) = compiled(COMMAND, [b"1/0\n"])
    assert b"/opt/a.py" in code


def test_compiles_as_python_itself_does(tmp_path: Path) -> None:
    """No optimisation, and asserts and docstrings stay; no `__future__` of the worker's own."""
    source = b"'doc'\ndef f(x: undefined = 1): 'inner'\n"
    (code,) = compiled(COMMAND, [source])
    (tmp_path / "pyc").write_bytes(code)
    check = (
        "import marshal\n"
        "names = {'undefined': int}\n"
        "exec(marshal.loads(open('pyc', 'rb').read()[16:]), names)\n"
        "print(names['__doc__'], names['f'].__doc__, names['f'].__annotations__)"
    )
    assert run(check, tmp_path) == "doc inner {'x': <class 'int'>}"


@pytest.mark.parametrize(
    "source",
    [b"print 'old'\n", b"{% template %}\n", b"x = (\n", b"nul\0byte", b"\xff\xfe", b"return 1\n",
     b"# coding: no-such-codec\n", b"x = " + b"(" * 500 + b")" * 500, b"-" * 100_000 + b"1"],
)  # fmt: skip
def test_source_that_does_not_compile_is_kept_without_byte_code(source: bytes) -> None:
    with Compiler(COMMAND, {}) as compiler:
        entries = [of_bytes(f"{SITE}/bad.py", source), of_bytes(f"{SITE}/good.py", b"x = 1\n")]
        found = list(bytecode.compiled(entries, compiler))
    assert [entry.path.removeprefix(f"{SITE}/") for entry in found] == [
        "bad.py", "good.py", "__pycache__/good.cpython-311.pyc"
    ]  # fmt: skip
    assert found[0].open().read() == source


def test_warnings_of_sources_are_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert all(compiled(COMMAND, [b"x = 1 is 1\n", b"y = '\\d'\n"]))
    assert capfd.readouterr() == ("", "")


def test_byte_code_follows_its_source_and_stale_byte_code_goes() -> None:
    entries = [
        of_bytes(f"{SITE}/pkg/__pycache__/a.cpython-311.pyc", b"stale"),
        of_bytes(f"{SITE}/pkg/__pycache__/gone.cpython-310.opt-1.pyc", b"stale"),
        of_bytes(f"{SITE}/pkg/a.py", b"x = 1\n", 0o755),
        of_bytes(f"{SITE}/pkg/only.pyc", b"without source"),
        of_bytes(f"{SITE}/pkg/data.txt", b"text"),
        of_symlink(f"{SITE}/pkg/link.py", "a.py"),
        of_bytes("opt/venv/bin/script.py", b"x = 1\n"),
        of_bytes("opt/venv/share/__pycache__/kept.pyc", b"data"),
    ]
    with Compiler(COMMAND, {}) as compiler:
        found = list(bytecode.compiled(iter(entries), compiler))
    assert [(entry.path.removeprefix(f"{SITE}/"), entry.mode) for entry in found] == [
        ("pkg/a.py", 0o755),
        ("pkg/__pycache__/a.cpython-311.pyc", 0o644),
        ("pkg/only.pyc", 0o644),
        ("pkg/data.txt", 0o644),
        ("pkg/link.py", 0o777),
        ("opt/venv/bin/script.py", 0o644),
        ("opt/venv/share/__pycache__/kept.pyc", 0o644),
        ("pkg/__pycache__/link.cpython-311.pyc", 0o644),
    ]


def test_names_that_are_not_unicode_are_compiled_too() -> None:
    with Compiler(COMMAND, {}) as compiler:
        assert all(each(compiler, [b"x = 1\n"], path="/opt/\udcff.py"))
        assert all(each(compiler, [b"x = 1\n"], path="/opt/文件.py"))


def test_large_source_comes_through_whole() -> None:
    lines = b"".join(b"x%d = 'y' * %d\n" % (number, number) for number in range(30_000))
    (code,) = compiled(COMMAND, [lines])
    assert len(code) > 300_000


# -- sent ahead ------------------------------------------------------------------------------------


def many(sizes: Sequence[int]) -> list[Entry]:
    """Sources of about so many bytes, whose byte code is about as long."""
    return [
        of_bytes(
            f"{SITE}/m{number}.py", b"".join(b"x%d = %d\n" % (i, i) for i in range(size // 20))
        )
        for number, size in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    "sizes", [[100] * 300, [30_000] * 6, [200_000, 10, 200_000], [10, 100_000] * 2]
)
@pytest.mark.parametrize("pipe", [1 << 12, 1 << 16])
def test_no_size_of_sources_or_of_the_pipe_stops_it(
    sizes: list[int], pipe: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytecode, "_PIPE", pipe)
    with Compiler(COMMAND, {}) as compiler:
        found = list(bytecode.compiled(many(sizes), compiler))
    assert [entry.path for entry in found[::2]] == [entry.path for entry in many(sizes)]
    for source, code in zip(found[::2], found[1::2], strict=True):
        assert code.path == bytecode.code_path(source.path)
        assert int.from_bytes(code.open().read()[12:16], "little") == source.size


def test_process_has_work_before_its_answers_are_taken_but_not_all_of_it() -> None:
    """What waits is held in memory."""
    taken: list[str] = []

    def noted(entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            taken.append(entry.path)
            yield entry

    for entries in (
        many([100] * 2000),
        [*many([100]), *(of_bytes(f"f{n}", b"") for n in range(2000))],
    ):
        taken.clear()
        with Compiler(COMMAND, {}) as compiler:
            found = bytecode.compiled(noted(entries), compiler)
            assert next(found).path == entries[0].path
            assert next(found).path.endswith("m0.cpython-311.pyc")
            assert 10 < len(taken) < 1000
            del found


def test_process_of_a_layer_that_failed_is_not_used_again() -> None:
    """Its answers would be taken for those of another layer's sources."""

    def failing() -> Iterator[Entry]:
        yield from many([100, 200])
        raise OSError("disk")

    with Compiler(COMMAND, {}) as compiler:
        with pytest.raises(OSError, match="disk"):
            list(bytecode.compiled(failing(), compiler))
        left = bytecode.compiled(many([300] * 9), compiler)
        assert next(left).path == f"{SITE}/m0.py"
        del left
        assert each(compiler, [SETS]) == compiled(COMMAND, [SETS])
        assert each(compiler, [MARKED]) == compiled(COMMAND, [MARKED])
        assert len(compiler._workers) == 3  # the last was used again


# -- an interpreter that fails ---------------------------------------------------------------------


def test_interpreter_that_is_not_there_is_a_tool_error() -> None:
    with pytest.raises(ToolError, match="does not start"):
        compiled(["/nonexistent/python"], [b""])


@pytest.mark.parametrize(
    "code",
    [
        "import os; os._exit(7)",
        "import sys, os; sys.stdin.buffer.read(8); os._exit(7)",
        "import os; os.write(1, bytes(3)); os._exit(7)",
        "import os; os.read(0, 8); os.write(1, b'\\0\\0\\0\\x64half a pyc'); os._exit(7)",
    ],
)
def test_interpreter_that_dies_is_a_tool_error_and_leaves_no_half_byte_code(code: str) -> None:
    for source in (b"x = 1\n", b"x = 1\n" * 50_000):
        with pytest.raises(ToolError, match=r"died with status 7 .* /opt/a\.py") as error:
            compiled([sys.executable, "-c", code], [source])
    assert "by hand" in (error.value.remedy or "")


KILLER = """
import os, runpy, sys
import builtins
real = builtins.compile
def compile(source, *args, **options):
    if b"kill" in source: os.kill(os.getpid(), 9)
    return real(source, *args, **options)
builtins.compile = compile
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_worker_that_is_killed_in_the_midst_is_a_tool_error() -> None:
    with pytest.raises(ToolError, match="died with status"):
        compiled([sys.executable, "-c", KILLER], [b"x = 1\n", b"kill = 1\n"])


def runs(pid: int) -> bool:
    """Whether a process is there and not a zombie: not every container has an init that reaps."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_no_process_is_left_behind() -> None:
    with Compiler(COMMAND, {}) as compiler:
        assert all(each(compiler, [b"x = 1\n"]))
        worker = compiler._workers[0]._process
        children = f"/proc/{worker.pid}/task/{worker.pid}/children"
        found = [int(pid) for pid in Path(children).read_text().split()]
        assert found
    assert worker.returncode is not None
    deadline = time.monotonic() + 30
    while any(runs(pid) for pid in found):
        assert time.monotonic() < deadline, "the worker's child lives on"
        time.sleep(0.01)


def test_process_whose_builder_was_killed_ends_without_a_word() -> None:
    worker = Path(bytecode.__file__).with_name("bytecode_worker.py")
    request = (4).to_bytes(4, "big") + (6).to_bytes(4, "big") + b"a.py" + b"x = 1\n"
    with subprocess.Popen(
        [*COMMAND, str(worker), "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.write(request * 3)
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_worker_needs_the_image_alone() -> None:
    """It runs with -I -S in an image's Python: nothing of the builder's can be imported there."""
    text = Path(bytecode.__file__).with_name("bytecode_worker.py").read_text()
    assert "from images" not in text


def test_linked_source_has_byte_code_of_its_own() -> None:
    """Debian's `sitecustomize.py` is a link to a file in /etc."""
    library = f"usr/lib/python{image_paths.PYTHON}"
    given = [
        of_symlink(f"{library}/near.py", "real.py"),
        of_symlink(f"{library}/far.py", "/etc/far.py"),
        of_symlink(f"{library}/gone.py", "/nowhere.py"),
        of_bytes(f"{library}/real.py", b"X = 1\n"),
        of_bytes("etc/far.py", b"Y = 2\n"),
    ]
    with Compiler(COMMAND, {}) as compiler:
        paths = [entry.path for entry in bytecode.compiled(given, compiler)]
    code = [path for path in paths if path.endswith(".pyc")]
    tag = "cpython-" + image_paths.PYTHON.replace(".", "")
    assert code == [f"{library}/__pycache__/{name}.{tag}.pyc" for name in ("real", "near", "far")]
    assert [path for path in paths if path not in code] == [entry.path for entry in given]
