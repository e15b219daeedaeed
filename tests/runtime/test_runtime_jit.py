"""SGLang's activation kernel in a form that g++ 12 compiles."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from roll_runtime import jit

KERNEL = f"""\
template <bool kFilterExpert>
static auto select_kernel(const std::string& type)
    {jit._REFUSED} {{
"""


@pytest.fixture
def activation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module like SGLang's, whose `load_jit` gives back what it was asked to compile."""
    monkeypatch.setenv("TVM_FFI_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc" / "activation.cuh").write_text(KERNEL)
    (tmp_path / "csrc" / "other.cuh").write_text("// fine\n")

    def load_jit(*args: str, **kwargs: Any) -> tuple[Any, ...]:
        return args, kwargs

    module: Any = ModuleType("sglang.jit_kernel.activation")
    module.__file__, module.load_jit = str(tmp_path / "activation.py"), load_jit
    jit.patch_activation(module, "0.5.12.post1")
    return module  # type: ignore[no-any-return]


def test_the_refused_spelling_is_compiled_from_a_corrected_copy(activation: Any) -> None:
    args, kwargs = activation.load_jit("a", cuda_files=["activation.cuh"], extra_cuda_cflags=["-x"])
    (path,) = kwargs.pop("cuda_files")
    assert (args, kwargs) == (("a",), {"extra_cuda_cflags": ["-x"]})
    assert Path(path).is_absolute()
    assert Path(path).read_text() == KERNEL.replace(jit._REFUSED, jit._ACCEPTED)
    assert [item.name for item in Path(path).parent.iterdir()] == ["activation.cuh"]


def test_copy_that_a_crash_cut_short_is_written_again(activation: Any) -> None:
    (path,) = activation.load_jit(cuda_files=["activation.cuh"])[1]["cuda_files"]
    Path(path).write_text("")
    assert activation.load_jit(cuda_files=["activation.cuh"])[1]["cuda_files"] == [path]
    assert Path(path).read_text() == KERNEL.replace(jit._REFUSED, jit._ACCEPTED)


def test_cache_that_cannot_be_written_is_no_obstacle(
    activation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file where the directory should be")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (path,) = activation.load_jit(cuda_files=["activation.cuh"])[1]["cuda_files"]
    assert Path(path).read_text() == KERNEL.replace(jit._REFUSED, jit._ACCEPTED)
    assert Path(path).name == "activation.cuh"


def test_another_source_stays_what_it_is(activation: Any, tmp_path: Path) -> None:
    assert activation.load_jit(cuda_files=["other.cuh"])[1] == {"cuda_files": ["other.cuh"]}
    assert not (tmp_path / "cache").exists()


def test_again_is_the_same_as_once(activation: Any) -> None:
    once = activation.load_jit
    jit.patch_activation(activation, "0.5.12.post1")
    assert activation.load_jit is once
    first, second = (once(cuda_files=["activation.cuh"])[1] for _ in range(2))
    assert first == second
