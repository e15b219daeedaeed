"""One directory for all compilers' caches: `ROLL_RUNTIME_CACHE_DIR`."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from roll_runtime.doctor_kernels import check_caches, check_kernels
from roll_runtime.findings import Status
from roll_runtime.policy import Kind
from runtime_support import Run

from roll_runtime import caches, image_kernels, policy

NEWEST = "0.5.23"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    caches._warn.cache_clear()
    (tmp_path / "tmp").mkdir()
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def variables(version: str) -> dict[str, str]:
    """The variables of compilers' caches, and each one's directory."""
    return {rule.name: rule.value for rule in policy.rules_for(version) if rule.kind is Kind.CACHE}


def test_every_compiler_gets_a_directory_below_the_one(home: Path, version: str) -> None:
    environ: dict[str, str] = {}
    shared = caches.settle(environ, version)
    assert shared == home / ".cache" / "roll_runtime" / caches.image_name()
    assert environ == {name: str(shared / value) for name, value in variables(version).items()}
    assert {"triton", "torchinductor", "deep_gemm", "tvm-ffi"} <= set(variables(version).values())


def test_the_configured_directory_is_used(home: Path, tmp_path: Path) -> None:
    environ = {caches.SETTING: str(tmp_path / "volume" / "kernels")}
    shared = caches.settle(environ, NEWEST)
    assert shared is not None
    assert shared.parent == tmp_path / "volume" / "kernels"
    assert environ["TRITON_CACHE_DIR"] == str(shared / "triton")


def test_machine_without_a_place_for_temporary_files_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only root: the compilers' own defaults remain."""

    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    (tmp_path / "file").touch()
    environ = {caches.SETTING: str(tmp_path / "file"), "TRITON_CACHE_DIR": "/kernels"}
    assert caches.settle(environ, NEWEST) is None
    assert environ == {caches.SETTING: str(tmp_path / "file"), "TRITON_CACHE_DIR": "/kernels"}


def test_two_images_do_not_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """FlashInfer up to 0.3.1 has no version in its path."""
    name = caches.image_name()
    assert caches.image_name() == name
    monkeypatch.setattr("importlib.metadata.version", lambda item: f"{item}-of-another-image")
    assert caches.image_name() != name


@pytest.mark.usefixtures("home")
def test_operators_values_are_kept(version: str) -> None:
    own = {name: f"/volume/{name}" for name in variables(version)}
    environ = dict(own)
    caches.settle(environ, version)
    for name in set(own) - set(caches.DEEP_GEMM):
        assert environ[name] == own[name]
    assert len({environ[name] for name in caches.DEEP_GEMM if name in environ}) == 1


@pytest.mark.parametrize("name", caches.DEEP_GEMM)
@pytest.mark.usefixtures("home")
def test_deep_gemms_names_are_one_setting(name: str) -> None:
    """SGLang writes DG_JIT_CACHE_DIR over with its own, which then would be the default."""
    environ = {name: "/volume/dg"}
    caches.settle(environ, NEWEST)
    assert environ["SGLANG_DG_CACHE_DIR"] == environ["DG_JIT_CACHE_DIR"] == "/volume/dg"


def test_what_a_library_set_is_no_wish(home: Path, tmp_path: Path) -> None:
    """torch and SGLang put their defaults into the environment when they are imported."""
    environ = {
        "TRITON_CACHE_DIR": f"{home}/.cache/sglang/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{tmp_path}/tmp/torchinductor_root",
        "DG_JIT_CACHE_DIR": f"{home}/.cache/deep_gemm",
    }
    shared = caches.settle(environ, NEWEST)
    assert environ == {name: str(shared / v) for name, v in variables(NEWEST).items()}  # type: ignore[operator]


def test_sglangs_directory_of_the_operator_holds_what_sglang_puts_there(home: Path) -> None:
    own = {
        "SGLANG_CACHE_DIR": f"{home}/.cache/sglang",
        "TRITON_CACHE_DIR": f"{home}/.cache/sglang/t",
    }
    environ = dict(own)
    caches.settle(environ, NEWEST)
    assert environ.items() >= own.items()


def test_again_is_the_same(home: Path) -> None:
    first: dict[str, str] = {}
    caches.settle(first, NEWEST)
    second = dict(first)
    caches.settle(second, NEWEST)
    assert second == first


def test_a_directory_that_cannot_be_made(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (home / "file").touch()
    environ = {caches.SETTING: str(home / "file")}
    shared = caches.settle(environ, NEWEST)
    assert shared == tmp_path / "tmp" / f"roll_runtime-{os.getuid()}" / caches.image_name()
    assert environ["TRITON_CACHE_DIR"] == str(shared / "triton")
    assert f"set {caches.SETTING}" in caplog.text


def test_a_directory_that_cannot_be_locked(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A network file system without locks: TVM's FFI, for one, would wait forever."""
    upstream = fcntl.flock

    def flock(file: int, operation: int) -> None:
        if str(home) in str(file.name):  # type: ignore[attr-defined]
            raise OSError(37, "No locks available")
        upstream(file, operation)

    monkeypatch.setattr("fcntl.flock", flock)
    shared = caches.directory({})
    assert shared is not None
    assert tmp_path / "tmp" in shared.parents
    assert "No locks available" in caplog.text


def test_a_lock_of_another_worker_is_no_fault(tmp_path: Path) -> None:
    assert not caches.why_unusable(tmp_path)
    with (tmp_path / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not caches.why_unusable(tmp_path)


def test_temporary_files_of_another_user_are_not_used(home: Path, tmp_path: Path) -> None:
    """Who can write there could have another's engine load a library."""
    (home / "file").touch()
    base = tmp_path / "tmp" / f"roll_runtime-{os.getuid()}"
    base.mkdir()
    base.chmod(0o777)
    environ = {caches.SETTING: str(home / "file")}
    assert caches.settle(environ, NEWEST) is None
    assert environ == {caches.SETTING: str(home / "file")}


def test_an_engine_and_its_children_see_them(run_engine: Run, version: str, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    result = run_engine(version, {"HOME": str(tmp_path / "home"), "TVM_FFI_CACHE_DIR": "/own"})
    assert result["error"] is None
    seen = result["starts"][0]["env"]
    for name, value in variables(version).items():
        if name != "TVM_FFI_CACHE_DIR":
            assert Path(seen[name]).name == value
            assert tmp_path / "home" / ".cache" / "roll_runtime" in Path(seen[name]).parents
    assert seen["TVM_FFI_CACHE_DIR"] == "/own"
    assert "TRITON_CACHE_MANAGER" not in seen


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(image_kernels, "DIRECTORY", tmp_path / "kernels")
    return tmp_path / "kernels"


def put(path: Path, text: str = "kernel") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.8.0+cu128")


@pytest.mark.usefixtures("torch")
def test_inductors_kernels_are_copied_once(image: Path, tmp_path: Path) -> None:
    put(image / "inductor" / "fxgraph" / "ab" / "graph", "image's")
    put(image / "deep_gemm" / "cache" / "kernel.x" / "kernel.cubin", "image's")
    put(tmp_path / "shared" / "deep_gemm" / "cache" / "kernel.x" / "kernel.cubin", "user's")
    caches.copy_kernels(tmp_path / "shared")
    caches.copy_kernels(tmp_path / "shared")
    files = {p.relative_to(tmp_path / "shared"): p.read_text() for p in files_below(tmp_path)}
    assert files == {
        Path("torchinductor/fxgraph/ab/graph"): "image's",
        Path("deep_gemm/cache/kernel.x/kernel.cubin"): "user's",
    }


def files_below(folder: Path) -> list[Path]:
    return [path for path in (folder / "shared").rglob("*") if path.is_file()]


@pytest.mark.parametrize("release", ["2.7.1", "none"])
def test_inductors_kernels_are_for_torch_28_and_later(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    """Before, workers that start together fail when they unpack the same graph at once."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: release)
    put(image / "inductor" / "fxgraph" / "ab" / "graph")
    caches.copy_kernels(tmp_path / "shared")
    assert not (tmp_path / "shared").exists()


@pytest.mark.usefixtures("torch")
def test_a_copy_that_fails_is_reported(
    image: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(image / "inductor" / "graph")
    put(tmp_path / "shared" / "torchinductor", "a file")
    caches.copy_kernels(tmp_path / "shared")
    assert "the image's inductor kernels are not copied" in caplog.text


def test_what_the_image_has(image: Path) -> None:
    assert image_kernels.found() == {}
    put(image / "triton" / "KEY" / "kernel.cubin")
    put(image / "triton" / "KEY2" / "cuda_utils.so")
    put(image / "tvm-ffi" / "name_key" / "name.so")
    assert image_kernels.found() == {"triton": 1, "triton helpers": 1, "tvm-ffi": 1}


def test_doctor_names_the_caches_and_the_images_kernels(home: Path, image: Path) -> None:
    (kernels,), (found,) = check_kernels(), check_caches()
    assert kernels.found.startswith("none")
    folder = home / ".cache" / "roll_runtime" / caches.image_name()
    assert found.status is Status.OK
    assert found.found == f"{folder}, cold: nothing has been compiled yet"
    put(image / "triton" / "KEY" / "kernel.cubin")
    put(folder / "triton" / "KEY" / "kernel.cubin")
    put(
        folder / "flashinfer-w-0" / ".cache" / "flashinfer" / "90a" / "cached_ops" / "norm" / "n.so"
    )
    (kernels,), (found,) = check_kernels(), check_caches()
    assert kernels.found == "1 for triton"
    assert found.found == f"{folder}, warm: 1 for flashinfer, 1 for triton"


def test_doctor_names_a_directory_that_cannot_be_used(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").touch()
    monkeypatch.setenv(caches.SETTING, str(home / "file"))
    (found,) = check_caches()
    assert found.status is Status.WARN
    assert caches.SETTING in found.remedy
