"""What layers are made of fixed inputs, for their format numbers: each maker runs the real code.

Fixed for every machine: nothing here may depend on its Python, its libraries or its user.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import shlex
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from images import image_paths
from images.build import base
from images.content import runtime_wheel
from images.content.cuda import links, toolkit
from images.content.debian import extra_packages, mmdebstrap, rootfs
from images.content.kernels import kernel_build, kernel_inputs
from images.content.kernels.kernel_inputs import Kernels
from images.content.python import bytecode
from images.content.python.bytecode import Compiler
from images.content.python.interpreter import Interpreter
from images.content.sdist import compiled_build, wheel_build
from images.formats import wheel_file
from images.formats.libraries import served_gpus
from images.formats.wheel_changes import Changes, Rules
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.deb import Deb
from images.oci.layer import writer
from images.oci.layer.entry import Entry, of_bytes, of_symlink
from tests.unit import fat_binaries
from tests.unit.fake_debs import ar_of, tar_of
from tests.unit.fake_toolkits import fake_12, fake_13
from tests.unit.wheels import write_wheel

SITE = image_paths.SITE_PACKAGES
SYSTEM = "/usr/bin/python3"


def described(entries: Iterable[Entry]) -> list[list[Any]]:
    """All that a layer gets of its entries."""
    return [
        [e.path, e.kind, e.mode, e.size, e.target, e.uid, e.gid, e.open().read()] for e in entries
    ]


def members(tar: Path, without: Sequence[str] = ()) -> list[list[Any]]:
    """A tar's members but for times of its making, and for files whose bytes are in a key."""
    with tarfile.open(tar) as archive:
        return [
            [m.name, m.mode, m.uid, m.gid, m.uname, m.mtime, m.linkname,
             content.read() if not m.issym() and (content := archive.extractfile(m)) else None]
            for m in archive
            if m.name not in without
        ]  # fmt: skip


def plain_deb(cache: Path, package: str) -> Deb:
    """A package without compression, which another liblzma might do otherwise."""
    control = {"control": f"Package: {package}\nVersion: 1\n".encode()}
    content = ar_of({"debian-binary": b"2.0\n", "control.tar": tar_of(control)})
    artifact = Artifact(f"{package}.deb", hashlib.sha256(content).hexdigest(), len(content))
    path = cache / artifact.sha256 / artifact.filename
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return Deb(package, "1", "debian", f"pool/main/x/{package}/{artifact.filename}", artifact)


def layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    entries = [
        Entry("etc", "dir", 0o755),
        of_bytes("etc/hostname", b"worker\n"),
        of_bytes(f"opt/{'long/' * 60}ünïcode", b"x" * 100_000, 0o755),
        of_symlink("opt/link", "/usr/bin/python3.11"),
        Entry("opt/same", "hardlink", target="etc/hostname"),
        Entry("tmp", "dir", 0o1777, uid=7, gid=8),
    ]
    efforts: tuple[writer.Effort, ...] = ("fast", "dense")
    blobs = [writer.write(entries, io.BytesIO(), "zstd", effort=effort) for effort in efforts]
    return [dataclasses.asdict(blob) for blob in blobs]


def byte_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    if "{}.{}".format(*sys.version_info) != image_paths.PYTHON:
        pytest.skip(f"needs Python {image_paths.PYTHON}, the image's")
    entries = [
        of_bytes(f"{SITE}/a/__init__.py", b"'doc'\nassert True\ndef f(x: int) -> str: ...\n"),
        of_bytes(f"{SITE}/a/__pycache__/old.cpython-311.pyc", b"stale"),
        of_bytes(f"{SITE}/a/template.py", b"{% no Python %}"),
        of_symlink(f"{SITE}/a/link.py", "__init__.py"),
        of_bytes("opt/venv/bin/script.py", b"x = 1\n"),
    ]
    with Compiler((sys.executable, "-I", "-S"), {}) as compiler:
        return described(bytecode.compiled(entries, compiler))


def installed_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    files = {
        "demo/__init__.py": b"x = 1\n",
        "demo/tool.so": b"\x7fELF",
        "demo-1.0.data/scripts/run": b"#!python\nprint()\n",
        "demo-1.0.data/scripts/shell": b"#!/bin/sh\n",
        "demo-1.0.data/data/share/x": b"data",
        "demo-1.0.data/headers/x.h": b"int x;",
        "demo-1.0.data/purelib/pure.py": b"",
        "demo-1.0.data/platlib/plat.py": b"",
        "demo-1.0.dist-info/entry_points.txt": b"[console_scripts]\ndemo = demo:main\n",
    }
    path = write_wheel(tmp_path, files, modes={"demo/tool.so": 0o100775})
    made = []
    with wheel_file.opened(path) as opened:
        made += described(wheel_file.entries(opened))
        made += described(wheel_file.entries(opened, {f"{SITE}/demo/__init__.py"}))
    (tmp_path / "other").mkdir()
    other = write_wheel(tmp_path / "other", files, record="wrong,sha256=x,1\n")
    with wheel_file.opened(other, misrecorded=True) as opened:
        made += described(wheel_file.entries(opened))
    return made


def changed_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    code = fat_binaries.container(
        *(fat_binaries.entry(fat_binaries.CUBIN, number, b"code") for number in (70, 90, 120)),
        *(fat_binaries.entry(fat_binaries.PTX, number, b"text") for number in (80, 120)),
    )
    odd = fat_binaries.container(fat_binaries.entry(9, 90, b"odd"))
    files = {
        "demo/code.so": fat_binaries.library([(".nv_fatbin", code), (".data", b"data")]),
        "demo/relocatable.so.1": fat_binaries.library([("__nv_relfatbin", code + odd)]),
        "demo/sm100.cubin": b"",
        "demo/static.a": b"",
        "demo-1.0.dist-info/LICENSE": fat_binaries.LICENCE,
    }
    rules = Rules(served_gpus.served_by(["9.0"]), "Apache-2.0", (f"/{SITE}/*.a",))
    with wheel_file.opened(write_wheel(tmp_path, files)) as opened:
        return described(wheel_file.entries(opened, (), Changes(rules)))


BACKEND = b"""
import json, os, stat, sys, time, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    source, place = os.getcwd(), sys.argv[1]
    files = {}
    for where, folders, names in sorted(os.walk(source)):
        for name in sorted(folders + names):
            path = os.path.join(where, name)
            found = os.lstat(path)
            files[path] = stat.filemode(found.st_mode), found.st_mtime * stat.S_ISREG(found.st_mode)
    seen = {
        "files": files,
        "environment": {x: y for x, y in sorted(os.environ.items()) if x != "PWD"},
        "flags": [sys.flags.isolated, sys.flags.no_user_site, sys.flags.safe_path,
                  sys.flags.dont_write_bytecode],
        "first": sys.path[:2],
        "umask": os.umask(0),
        "zone": time.tzname,
    }
    with zipfile.ZipFile(os.path.join(directory, "demo-1.0-py3-none-any.whl"), "w") as archive:
        archive.writestr("seen.json", json.dumps(seen).replace(place, "PLACE"))
"""
SDIST = {
    "demo-1.0/pyproject.toml": b'[build-system]\nbuild-backend = "own"\nbackend-path = ["own"]\n',
    "demo-1.0/own/own.py": BACKEND,
    "demo-1.0/src/demo.sh": b"#!/bin/sh\n",
}


def sdist(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in SDIST.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(content), 0o750 * name.endswith(".sh"), 99
            archive.addfile(info, io.BytesIO(content))
    return path


def built_sdist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """All that the code of a build can see; its source is of one user everywhere."""
    if subprocess.run([SYSTEM, "-P", "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"the image's Python has -P, which is of 3.11; {SYSTEM} has not")
    (tmp_path / "work").mkdir()
    python = Interpreter((SYSTEM, "-I", "-S"), {"PATH": os.defpath}, "3.11")
    needs = [write_wheel(tmp_path, {"need.py": b""}, name="need")]
    made = wheel_build.build(sdist(tmp_path / "demo-1.0.tar.gz"), needs, python, tmp_path / "work")
    with zipfile.ZipFile(made) as archive:
        return archive.read("seen.json")


def compiled_sdist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """What is done in the base's root, whose bytes are in the key, and with which files."""
    seen: list[object] = []

    def change(
        workdir: Path, recipe: Path, epoch: int, hooks: mmdebstrap.Hooks, unpacked: None
    ) -> None:
        assert unpacked is None, "the packages are installed"
        seen.extend(hooks(Path("/place")))
        seen.extend(members(workdir / "sdist-build.tar", without=[wheel_build.WORKER.name]))
        (workdir / "build.log").write_text("")
        with tarfile.open(workdir / "wheel.tar", "w") as tar:
            tar.addfile(tarfile.TarInfo("./demo-1.0-py3-none-any.whl"))

    monkeypatch.setattr(mmdebstrap, "change", change)
    (tmp_path / "work").mkdir()
    needs = [write_wheel(tmp_path, {"need.py": b""}, name="need")]
    archive = sdist(tmp_path / "demo-1.0.tar.gz")
    compiled_build.build(archive, needs, [], tmp_path / "cache", tmp_path / "work")
    return seen


def compiled_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """What is done in the base's root, with which files, and what is kept of the results."""
    seen: list[object] = []
    kernels = Kernels(("norm", "sampling"), ("8.0", "9.0a"), (("9.0", ("dense",)),))
    programs = [path.name for path in kernel_inputs.programs(kernels)]
    workers = [f"build/{name}" for name in programs]
    naming = [f"{SITE}/roll_runtime/{name}" for name in programs]
    profile = "usr/local/cuda/bin/nvcc.profile"

    def change(
        workdir: Path, recipe: Path, epoch: int, hooks: mmdebstrap.Hooks, unpacked: Sequence[str]
    ) -> None:
        assert unpacked is not None, "the packages are unpacked alone"
        seen.extend(hooks(Path("/place")))
        found = members(workdir / "kernels-build.tar", [*workers, *naming, profile])
        seen.extend(found)
        (workdir / "build.log").write_text("")
        with tarfile.open(workdir / "kernels.tar", "w") as tar:
            for name in (f"{SITE}/flashinfer/data/aot/norm/norm.so", "opt/venv/kernels/other.so"):
                tar.addfile(tarfile.TarInfo(f"./{name}"))

    monkeypatch.setattr(mmdebstrap, "change", change)
    torch = {
        "torch/include/ATen/a.h": b"header",
        "torch/lib/libtorch.so": b"not read",
        "torch/share/cmake/Torch/TorchConfig.cmake": b"-D_GLIBCXX_USE_CXX11_ABI=0",
    }
    (tmp_path / "work").mkdir()
    sources = kernel_build.Sources(
        [write_wheel(tmp_path, {"flashinfer/__init__.py": b""}, name="flashinfer_python")],
        [write_wheel(tmp_path, torch, name="torch", version="2.6.0")],
        "2.6.0",
        [of_symlink("usr/local/cuda/include/nccl.h", "/opt/nccl.h")],
        fake_12(tmp_path),
        [],
    )
    made = kernel_build.entries(kernels, sources, tmp_path, tmp_path / "work")
    return [described(made), seen]


def root_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    return [
        root_command(tmp_path, monkeypatch),
        root_packages(tmp_path),
        described(rootfs.entries(root_tar(tmp_path / "root.tar"))),
    ]


def root_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The command line and environment of mmdebstrap, but for what differs between users."""
    recipe, workdir, program = tmp_path / "recipe", tmp_path / "work", tmp_path / "bin/mmdebstrap"
    for place in (recipe, workdir, program.parent):
        place.mkdir()
    for file in rootfs.RECIPE.iterdir():
        (recipe / file.name).write_text(f"text of {file.name}")
    program.write_text(
        "#!/bin/sh\nfor argument; do result=$last last=$argument; done\n"
        'printf "%s\\n" "$@" "$HOME $LC_ALL $TZ $SOURCE_DATE_EPOCH" > "$result"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    seen = mmdebstrap.run(workdir, recipe, rootfs.EPOCH).read_text()
    for changing, fixed in ((f"{workdir}/", "/mnt/"), ("--mode=unshare", "--mode=root")):
        seen = seen.replace(changing, fixed)
    return seen


def root_packages(tmp_path: Path) -> bytes:
    debs = [plain_deb(tmp_path / "cache", package) for package in ("two", "one")]
    rootfs.write_repository(debs, tmp_path / "cache", tmp_path / "repository.tar")
    return (tmp_path / "repository.tar").read_bytes()


def root_tar(path: Path) -> Path:
    accounts = b"root:x:0:0::/root:/bin/sh\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n"
    files = {"etc/passwd": accounts, "run/left": b"", "usr/bin/a": b"program", "var/x": b"y"}
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size, info.mode, info.uid = len(content), 0o640, 3
            tar.addfile(info, io.BytesIO(content))
        for name in ("a/second", "usr/bin/third"):
            info = tarfile.TarInfo(f"./{name}")
            info.type, info.linkname = tarfile.LNKTYPE, "./usr/bin/a"
            tar.addfile(info)
    return path


def packages_of_a_flavour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """What is done in the base's root, and how what it changes is read."""
    seen: list[object] = []

    def change(
        workdir: Path, recipe: Path, epoch: int, hooks: mmdebstrap.Hooks, unpacked: None
    ) -> None:
        assert unpacked is None, "the packages are installed"
        seen.extend(without_files_of_the_key(hook) for hook in hooks(Path("/place")))
        seen.extend(members(workdir / "extra.tar"))
        (workdir / "gone.json").write_text("[]")
        root_tar(workdir / "changes.tar")

    monkeypatch.setattr(mmdebstrap, "change", change)
    (tmp_path / "work").mkdir()
    debs = [plain_deb(tmp_path / "cache", "git")]
    made = extra_packages.entries([], debs, tmp_path / "cache", tmp_path / "work")
    return [described(made), seen]


def without_files_of_the_key(hook: str) -> str:
    """A hook with the name of each file of a recipe in place of its text."""
    worker = extra_packages.RECIPE.with_name("extra_worker.py")
    recipes = (*extra_packages.RECIPE.iterdir(), *rootfs.RECIPE.iterdir())
    for file in (worker, *sorted(recipes)):
        text = file.read_text()
        hook = hook.replace(shlex.quote(text), file.name).replace(text, file.name)
    return hook


def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    return described(base.venv("/usr/local/bin/python3.11"))


def compiler_12_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """But for nvcc's profile, whose bytes are in the key."""
    return described(list(toolkit.entries(fake_12(tmp_path), tmp_path))[1:])


def compiler_13_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    return described(toolkit.entries(fake_13(tmp_path), tmp_path))


def cuda_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    wheels = {
        "nvidia-cuda-runtime-cu12": [
            "nvidia/cuda_runtime/include/cuda.h",
            "nvidia/cuda_runtime/lib/libcudart.so.12",
        ],
        "nvidia-cublas": ["nvidia/cu13/include/cublas.h", "nvidia/cu13/lib/libcublas.so.13"],
        "nvidia-cusparselt-cu12": ["cusparselt/lib/libcusparseLt.so.0"],
        "nvidia-nvshmem-cu12": ["nvidia/nvshmem/lib/libcudadevrt.a", "nvidia/nvshmem/__init__.py"],
    }
    found = list(links.entries(wheels, {"nvidia-cuda-runtime-cu12"}))
    return [described(found), described(links.of_the_loader(found))]


def wheel_of_roll_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """The wheel that the pinned uv makes of other sources by the same backend."""
    source = tmp_path / "demo"
    package = source / "src" / "demo"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("x = 1\n")
    (source / "pyproject.toml").write_text(
        '[project]\nname = "demo"\nversion = "1.0"\n'
        '[build-system]\nrequires = ["uv_build>=0.13,<0.14"]\nbuild-backend = "uv_build"\n'
    )
    monkeypatch.setattr(runtime_wheel, "SOURCE", source)
    (tmp_path / "work").mkdir()
    return runtime_wheel.build(tmp_path / "work").read_bytes()
