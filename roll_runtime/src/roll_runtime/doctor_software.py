"""Checks of what is installed: Python, roll_runtime, SGLang and what it pins, torch.

Nothing is imported, so an installation that cannot be imported is reported like any other fault.
"""

import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from roll_runtime import __version__, contract, dispatch, versions
from roll_runtime.findings import Check, Status


def check_python() -> Iterator[Check]:
    """Report the interpreter."""
    yield Check("python", Status.OK, f"{platform.python_version()} at {sys.executable}")


def check_runtime() -> Iterator[Check]:
    """Report roll_runtime: its version, and whether the hook is in this interpreter."""
    here = Path(__file__).parent
    yield Check("roll_runtime", Status.OK, f"{__version__} at {here}")
    if os.environ.get("ROLL_RUNTIME_AUTOLOAD", "1") == "0":
        yield Check(
            "autoload",
            Status.FAIL,
            "off (ROLL_RUNTIME_AUTOLOAD=0)",
            "Unset ROLL_RUNTIME_AUTOLOAD, or call roll_runtime.apply() before the engine starts.",
        )
    elif (here.parent / "roll_runtime.pth").is_file():
        yield Check("autoload", Status.OK, f"{here.parent / 'roll_runtime.pth'}")
    else:
        yield Check(
            "autoload",
            Status.FAIL,
            f"no roll_runtime.pth in {here.parent}, so spawned processes are not reached",
            "Install the wheel into site-packages (pip install roll_runtime-*.whl); a directory on "
            "PYTHONPATH is not searched for .pth files.",
        )


def check_sglang() -> Iterator[Check]:
    """Report SGLang's version against the table and its source against the contract."""
    folder = _package_folder("sglang")
    if folder is None:
        yield Check("sglang", Status.FAIL, "not installed", "pip install sglang")
        return
    version = dispatch.sglang_version()
    if versions.is_supported(version):
        yield Check("sglang", Status.OK, f"{version} at {folder}")
    else:
        yield Check("sglang", Status.FAIL, version, versions.unsupported_message(version))
    checker = contract.Checker(contract.TreeSource(folder.parent), version)
    report = checker.run()
    if report.ok:
        yield Check("contract", Status.OK, "SGLang's source has all that the patch relies on")
    for fault in report.missing:
        yield Check(
            "contract", Status.FAIL, fault, "Use a supported SGLang; this one was changed or is new"
        )


def check_packages() -> Iterator[Check]:
    """Compare installed kernels and FlashInfer with the versions that SGLang pins."""
    for name, wanted in _kernel_pins():
        found = _installed(name)
        if found is not None and found.partition("+")[0] == wanted:
            yield Check(name, Status.OK, found)
        else:
            yield Check(
                name,
                Status.WARN if found else Status.FAIL,
                f"{found or 'not installed'}; SGLang pins {wanted}",
                f"pip install {name}=={wanted}",
            )
    saver = _installed("torch-memory-saver")
    if saver is None:
        yield Check(
            "torch-memory-saver",
            Status.WARN,
            "not installed; ROLL turns enable_memory_saver on",
            "pip install torch-memory-saver, or set enable_memory_saver: false",
        )
    else:
        yield Check("torch-memory-saver", Status.OK, saver)


def _kernel_pins() -> list[tuple[str, str]]:
    """Return what SGLang pins of kernels and FlashInfer; several of its extras name the same."""
    pins: dict[tuple[str, str], None] = {}
    for requirement in _requirements("sglang"):
        match = re.match(
            r"((?:sgl|sglang)-kernel|flashinfer[_-]python)\s*==\s*([^\s;,]+)", requirement
        )
        if match is not None:
            pins[match[1].replace("_", "-"), match[2]] = None
    return list(pins)


def _requirements(name: str) -> list[str]:
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def torch_cuda() -> tuple[int, int] | None:
    """Return the CUDA version that torch was built for, from its version file, or `None`."""
    folder = _package_folder("torch")
    file = folder / "version.py" if folder is not None else None
    if file is None or not file.is_file():
        return None
    match = re.search(r"^cuda\b[^=]*=\s*['\"](\d+)\.(\d+)", file.read_text(), re.MULTILINE)
    return (int(match[1]), int(match[2])) if match else None


def check_torch() -> Iterator[Check]:
    """Report torch and the CUDA that it was built for."""
    version, cuda = _installed("torch"), torch_cuda()
    if version is None:
        yield Check("torch", Status.FAIL, "not installed", "Use the image's own interpreter")
    elif cuda is None:
        yield Check("torch", Status.FAIL, f"{version}, built without CUDA", "Install a CUDA build")
    else:
        yield Check("torch", Status.OK, f"{version} for CUDA {cuda[0]}.{cuda[1]}")


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package_folder(name: str) -> Path | None:
    # Of a top-level package: its __init__ is not executed.
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    return Path(folders[0]) if folders else None
