"""The driver, the GPUs, and the compilers for them."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from roll_runtime import dispatch, gpu, served, versions
from roll_runtime.doctor_software import torch_cuda
from roll_runtime.findings import Check, Status

MINIMUM_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
"""Oldest driver of each CUDA major version: minor versions are compatible with it."""

NVIDIA_SMI_OPTIONAL = "0.5.10.post1"
"""From this release on, SGLang reads torch where nvidia-smi is missing (`sglang/srt/utils`)."""

_NVCC_FOR = ((10, (12, 8)), (9, (11, 8)))
"""First nvcc release that compiles for a major compute capability, newest first."""


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
    """Report the GPUs that the image serves, the driver, and the GPUs of this machine."""
    image, check = _served()
    if check:
        yield check
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
        yield _gpu_check(device, image)
    yield from _arch_checks({tuple(device["capability"]) for device in answer["devices"]})


def torch_archs(timeout: float = 120.0) -> list[str]:
    """Return the GPU architectures that torch was built for, such as `sm_90`.

    Read in a child process (it imports torch, which takes seconds); empty when torch fails.
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
    """Return whether code built for these architectures runs on a GPU.

    `sm_XY` runs on its major version from its minor version on, `sm_XYa` on exactly XY, and
    `compute_XY` (PTX) on all that are not older.
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


def _served() -> tuple[tuple[served.Capability, ...], Check | None]:
    """Return the GPUs that the image serves, and the line about them, if it says which."""
    try:
        image = served.served()
    except RuntimeError as error:
        return (), Check("served GPUs", Status.FAIL, str(error), f"Unset {served.GPUS}.")
    known = ", ".join(f"{major}.{minor}" for major, minor in image)
    found = f"compute capability {known} ({served.GPUS})"
    return image, Check("served GPUs", Status.OK, found) if image else None


def _gpu_check(device: dict[str, Any], image: tuple[served.Capability, ...]) -> Check:
    major, minor = device["capability"]
    found = f"{device['name']}, sm_{major}{minor}, {device['memory_gib']} GiB"
    if image and not served.runs((major, minor), image):
        why = served.refusal(device["name"], (major, minor), image)
        return Check("gpu", Status.FAIL, found, why)
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


def check_program() -> Iterator[Check]:
    """Report nvidia-smi: SGLang reads the GPUs' memory from it when an engine starts."""
    version = dispatch.sglang_version()
    path = shutil.which("nvidia-smi")
    if path is not None:
        yield Check("nvidia-smi", Status.OK, path)
        return
    needed = not versions.is_supported(version) or versions.in_range(
        versions.base_version(version), None, NVIDIA_SMI_OPTIONAL
    )
    yield Check(
        "nvidia-smi",
        Status.FAIL if needed else Status.WARN,
        "none on PATH: "
        + (
            "the engine's start ends with `nvidia-smi not found`"
            if needed
            else f"SGLang {version} warns, and reads torch instead"
        ),
        "The NVIDIA runtime mounts it where NVIDIA_DRIVER_CAPABILITIES has `utility`: docker run "
        "--gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility. In a chroot, put the driver's "
        "nvidia-smi on PATH.",
    )


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
