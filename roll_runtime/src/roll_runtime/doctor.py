"""What is installed, and what would fail when the engine starts.

Every check says what was found, and where something is wrong what to do. Nothing is imported
from SGLang, and torch only where there is a GPU, in a child process: without one the answer comes
in a second, and an installation that cannot be imported is reported like any other fault.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from roll_runtime import __version__, contract, dispatch, env, gpu, versions


class Status(str, Enum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was checked.
        status: whether the engine's start would fail (``fail``), may suffer (``warn``), or not.
        found: what there is.
        remedy: what to do, empty when nothing is.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""


#: Oldest driver of each CUDA major version: minor versions are compatible with it.
MINIMUM_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}

#: First nvcc release that compiles for a major compute capability, newest first.
_NVCC_FOR = ((10, (12, 8)), (9, (11, 8)))

_GIB = 2**30
_SHM = "/dev/shm"  # noqa: S108 - the container's shared memory itself, only looked at


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
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    return Path(places[0]) if places else None


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
    for requirement in _requirements("sglang"):
        match = re.match(
            r"((?:sgl|sglang)-kernel|flashinfer[_-]python)\s*==\s*([^\s;,]+)", requirement
        )
        if match is None:
            continue
        name, wanted = match[1].replace("_", "-"), match[2]
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


def _requirements(name: str) -> list[str]:
    try:
        return list(dict.fromkeys(importlib.metadata.requires(name) or []))
    except importlib.metadata.PackageNotFoundError:
        return []


def torch_cuda() -> tuple[int, int] | None:
    """Return the CUDA version that torch was built for, from its version file, or ``None``."""
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


def driver_check(driver: tuple[int, int], image: tuple[int, int] | None) -> Check:
    """Judge the driver's CUDA version against the image's."""
    found = f"the driver serves CUDA up to {driver[0]}.{driver[1]}"
    if image is None:
        return Check("driver", Status.WARN, found + "; the image's CUDA version is not known")
    wanted = f"; the image has {image[0]}.{image[1]}"
    if driver[0] < image[0]:
        least = MINIMUM_DRIVER.get(image[0], "a newer one")
        return Check(
            "driver",
            Status.FAIL,
            found + wanted,
            f"Update the host's NVIDIA driver to {least} or later, or use an image for "
            f"CUDA {driver[0]}.",
        )
    if driver < image:
        return Check(
            "driver",
            Status.WARN,
            found + wanted + ": enough for compiled kernels (minor-version compatibility)",
            "Kernels that ship as PTX alone cannot be used; a newer host driver lifts that.",
        )
    return Check("driver", Status.OK, found + wanted)


def check_gpu(ask: Callable[[], dict[str, Any]] = gpu.ask_in_child) -> Iterator[Check]:
    """Report the driver and the GPUs."""
    answer = ask()
    if "error" in answer:
        yield Check(
            "driver",
            Status.FAIL,
            answer["error"],
            "Start the container with the NVIDIA runtime: docker run --gpus all …; on Kubernetes "
            "ask for nvidia.com/gpu.",
        )
        return
    yield driver_check((answer["cuda"][0], answer["cuda"][1]), torch_cuda())
    if not answer["devices"]:
        yield Check("gpu", Status.FAIL, "none visible", "Check CUDA_VISIBLE_DEVICES")
    for device in answer["devices"]:
        yield _gpu_check(device)
    yield from _arch_checks({tuple(device["capability"]) for device in answer["devices"]})


def torch_archs(timeout: float = 120.0) -> list[str]:
    """Return the GPU architectures that torch was built for, such as ``sm_90``.

    Asked in a child process (it imports torch, which takes seconds); empty when torch cannot tell.
    """
    code = "import json, torch; print(json.dumps(torch.cuda.get_arch_list()))"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout
        )
        archs: list[str] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return []
    return archs


def runs_on(capability: tuple[int, int], archs: list[str]) -> bool:
    """Tell whether code built for these architectures runs on a GPU.

    ``sm_XY`` runs on its major version from its minor version on, ``sm_XYa`` on exactly XY, and
    ``compute_XY`` (PTX) on all that are not older.
    """
    for arch in archs:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", arch)
        if match is None:
            continue
        built = (int(match[2]), int(match[3]))
        same_major = built[0] == capability[0] and built <= capability
        if built == capability or (
            not match[4] and (same_major if match[1] == "sm" else built <= capability)
        ):
            return True
    return False


def _arch_checks(capabilities: set[tuple[int, int]]) -> Iterator[Check]:
    archs = torch_archs()
    nvcc = _nvcc_release()
    for capability in sorted(capabilities):
        name = f"sm_{capability[0]}{capability[1]}"
        if archs and not runs_on(capability, archs):
            yield Check(
                "torch architectures",
                Status.FAIL,
                f"{', '.join(archs)}: none runs on {name}",
                "Use an image whose torch was built for this GPU.",
            )
        elif archs:
            yield Check("torch architectures", Status.OK, f"{', '.join(archs)} serve {name}")
        least = next((release for major, release in _NVCC_FOR if capability[0] >= major), None)
        if nvcc is not None and least is not None and nvcc < least:
            yield Check(
                "nvcc architectures",
                Status.FAIL,
                f"nvcc {nvcc[0]}.{nvcc[1]} cannot compile for {name}",
                f"Kernels compiled at start need nvcc {least[0]}.{least[1]} or later: use an "
                "image with a newer CUDA.",
            )


def _gpu_check(device: dict[str, Any]) -> Check:
    major, minor = device["capability"]
    found = f"{device['name']}, sm_{major}{minor}, {device['memory_gib']} GiB"
    if (major, minor) < (8, 0):
        return Check(
            "gpu",
            Status.FAIL,
            found,
            "SGLang's kernels are built for compute capability 8.0 and later (A100, L40, H100).",
        )
    if major >= 10 and (torch_cuda() or (0, 0)) < (12, 8):
        return Check("gpu", Status.FAIL, found, "Blackwell needs an image with CUDA 12.8 or later.")
    return Check("gpu", Status.OK, found)


def check_compilers() -> Iterator[Check]:
    """Report nvcc (FlashInfer, DeepGEMM), the C compiler (Triton) and ninja."""
    home, nvcc = _find_nvcc()
    if nvcc is None:
        yield Check(
            "nvcc",
            Status.FAIL,
            f"none on PATH nor in {home}/bin",
            "SGLang compiles kernels at start (FlashInfer, DeepGEMM): use an image with the CUDA "
            "compiler, or set CUDA_HOME to one.",
        )
    else:
        yield Check("nvcc", Status.OK, f"{_nvcc_version(nvcc)} at {nvcc}, CUDA_HOME={home}")
    for tool, user in (("cc", "Triton"), ("c++", "nvcc and FlashInfer"), ("ninja", "FlashInfer")):
        path = shutil.which(tool)
        if path is None:
            yield Check(tool, Status.FAIL, "none on PATH", f"{user} needs it: install {tool}.")
        else:
            yield Check(tool, Status.OK, path)


def _find_nvcc() -> tuple[str, str | None]:
    home = os.environ.get("CUDA_HOME") or "/usr/local/cuda"
    return home, shutil.which("nvcc") or shutil.which("nvcc", path=f"{home}/bin")


def _nvcc_release() -> tuple[int, int] | None:
    nvcc = _find_nvcc()[1]
    match = re.fullmatch(r"(\d+)\.(\d+)", _nvcc_version(nvcc)) if nvcc is not None else None
    return (int(match[1]), int(match[2])) if match else None


def _nvcc_version(nvcc: str) -> str:
    try:
        done = subprocess.run([nvcc, "--version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not runnable ({error})"
    match = re.search(r"release ([\d.]+)", done.stdout)
    return match[1] if match else "version unknown"


def check_environment() -> Iterator[Check]:
    """Report what the engine's children would see of each variable, and why."""
    version = dispatch.sglang_version()
    after = dict(os.environ)
    env.after_upstream(version, env.before_upstream(version, after), after)
    for rule in env.rules_for(version):
        present, future = os.environ.get(rule.name), after.get(rule.name)
        if rule.kind in (env.Kind.DERIVE, env.Kind.UPSTREAM):
            found = f"{future} (kept)" if future else "from the engine's arguments"
        elif present != future:
            found = f"{present or 'unset'} -> {future or 'removed'}"
        else:
            found = future or "unset"
        yield Check(rule.name, Status.OK, found)
    fixed = sorted(
        name
        for name in ("NCCL_CUMEM_ENABLE", "NCCL_NVLS_ENABLE")
        if os.environ.get(name) not in (None, "", "0")
    )
    for name in fixed:
        yield Check(
            name,
            Status.WARN,
            f"fixed to {os.environ[name]} by the environment",
            "Meant? Else unset it: SGLang derives it from enable_symm_mem and enable_nccl_nvls.",
        )


def check_host() -> Iterator[Check]:
    """Report what the container got from its host: shared memory, a writable HOME."""
    home = Path.home()
    if os.access(home, os.W_OK):
        yield Check("HOME", Status.OK, f"{home} is writable")
    else:
        yield Check(
            "HOME",
            Status.FAIL,
            f"{home} is not writable for uid {os.getuid()}",
            "Kernel caches are kept there: docker run -e HOME=/a/writable/directory.",
        )
    if Path(_SHM).is_dir():
        size = shutil.disk_usage(_SHM).total
        found = f"{size / _GIB:.1f} GiB"
        if size < _GIB:
            yield Check(
                _SHM,
                Status.WARN,
                found,
                "NCCL and SGLang's tensor-parallel workers talk through it: docker run "
                "--shm-size=16g (or --ipc=host).",
            )
        else:
            yield Check(_SHM, Status.OK, found)


CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (
    check_python,
    check_runtime,
    check_sglang,
    check_packages,
    check_torch,
    check_gpu,
    check_compilers,
    check_environment,
    check_host,
)


def diagnosis() -> list[Check]:
    """Run every check; one that breaks is reported as a failure, and the others go on."""
    found: list[Check] = []
    for check in CHECKS:
        try:
            found.extend(check())
        except Exception as error:
            found.append(
                Check(
                    check.__name__.removeprefix("check_"),
                    Status.FAIL,
                    f"the check itself broke: {type(error).__name__}: {error}",
                    "Report this.",
                )
            )
    return found


def main(as_json: bool) -> int:
    """Print the report.

    Args:
        as_json: as ``{"ok": …, "checks": […]}`` instead of lines.

    Returns:
        1 when something would fail, else 0.
    """
    checks = diagnosis()
    failed = [check for check in checks if check.status is Status.FAIL]
    if as_json:
        print(json.dumps({"ok": not failed, "checks": [asdict(item) for item in checks]}, indent=2))
    else:
        for item in checks:
            print(f"{item.status.value:4}  {item.name}: {item.found}")
            if item.remedy:
                print(f"      -> {item.remedy}")
        print(f"{len(failed)} of {len(checks)} checks failed" if failed else "all is well")
    return 1 if failed else 0
