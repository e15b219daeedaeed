"""One directory for what the compilers keep: `ROLL_RUNTIME_CACHE_DIR`.

Each compiler has a variable of its own (`policy.py` lists them, with the name of each one's
directory). Here they get their default: `<ROLL_RUNTIME_CACHE_DIR>/<image>/<name>`. `<image>` names
the versions of what compiles and of what is compiled against, because several images share a HOME
or a volume, and not every library has its version in its own path (FlashInfer up to 0.3.1).
"""

import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import logging
import os
import platform
import stat
import sys
import tempfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from roll_runtime import image_kernels, versions, whole_files
from roll_runtime.policy import Kind, rules_for

log = logging.getLogger("roll_runtime")

SETTING = "ROLL_RUNTIME_CACHE_DIR"
"""The directory; `~/.cache/roll_runtime` by default."""

DEEP_GEMM = ("SGLANG_DG_CACHE_DIR", "SGL_DG_CACHE_DIR", "DG_JIT_CACHE_DIR")
"""DeepGEMM's one directory by its three names: SGLang writes the last one over with its own."""

_DISTRIBUTIONS = (
    "sglang",
    "torch",
    "triton",
    "flashinfer-python",
    "sgl-kernel",
    "sglang-kernel",
    "sgl-deep-gemm",
    "apache-tvm-ffi",
)

_COPIED = (("inductor", "torchinductor", "2.8.0"), ("deep_gemm", "deep_gemm", None))
"""Libraries that look in one directory alone: the image's kernels are copied there. The directory's
name in the image and in the cache, and the first torch for it: before 2.8, workers that unpack the
same graph of inductor's cache into one Triton directory at once fail (`triton_bundler.py`)."""

Environ = MutableMapping[str, str]


def image_name() -> str:
    """Return the name of this image's directory: SGLang's version, and a digest of all versions."""
    parts = [f"python=={sys.version_info[0]}.{sys.version_info[1]}", platform.machine()]
    parts += [f"{name}=={_version(name)}" for name in _DISTRIBUTIONS]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    return f"sglang-{_version('sglang')}-{digest}"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def configured(environ: Environ) -> Path:
    """Return the directory that is asked for, whether it can be used or not."""
    default = Path(environ.get("HOME") or Path.home()) / ".cache" / "roll_runtime"
    return Path(environ.get(SETTING) or default).expanduser().absolute()


def why_unusable(folder: Path) -> str:
    """Return why compilers cannot use a directory, which is made; empty if they can.

    They write, and they lock: a network file system without locks makes some of them wait forever.
    """
    probe = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with probe.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # another worker holds it: locks work
        return ""
    except OSError as error:
        return error.strerror or str(error)
    return ""


def directory(environ: Environ) -> Path | None:
    """Return this image's directory of caches, made and usable; `None` if there can be none.

    Where the configured one cannot be written or locked, it is one below the temporary files.
    """
    wanted = configured(environ)
    reason = why_unusable(wanted / image_name())
    if not reason:
        return wanted / image_name()
    own = _temporary()
    _warn(
        f"compiled kernels cannot be kept in {wanted} ({reason}): "
        f"{f'{own} is used' if own else 'each compiler uses its own default'}. "
        f"Make it writable for uid {os.getuid()}, or set {SETTING}."
    )
    return own


@functools.cache
def _warn(text: str) -> None:
    # Once a process: at the import of the engine, and not again at its launch.
    log.warning("%s", text)


def _temporary() -> Path | None:
    """Return a directory below the temporary files that no other user can write kernels into."""
    with contextlib.suppress(OSError):
        base = Path(tempfile.gettempdir()) / f"roll_runtime-{os.getuid()}"
        base.mkdir(mode=0o700, exist_ok=True)
        found = base.lstat()
        safe = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if safe and not found.st_mode & 0o022 and not why_unusable(base / image_name()):
            return base / image_name()
    return None


def settle(environ: Environ, version: str) -> Path | None:
    """Give each compiler's variable its default; the operator's own values are kept.

    Args:
        environ: the environment to change.
        version: SGLang's version.

    Returns:
        This image's directory of caches; `None` if none can be used.
    """
    shared = directory(environ)
    found = {
        rule.name: own_value(environ, rule.name) or (str(shared / rule.value) if shared else "")
        for rule in rules_for(version)
        if rule.kind is Kind.CACHE
    }
    environ.update({name: value for name, value in found.items() if value})
    return shared


def own_value(environ: Environ, name: str) -> str:
    """Return the operator's value of a compiler's variable; a library's own default is none."""
    names = DEEP_GEMM if name in DEEP_GEMM else (name,)
    values = [environ.get(item, "") for item in names]
    return next((value for value in values if value and not _is_default(environ, value)), "")


def _is_default(environ: Environ, value: str) -> bool:
    """Return whether a library put this value into the environment, on import or at first use."""
    home = environ.get("HOME") or str(Path.home())
    defaults = [f"{home}/.cache/deep_gemm"]
    with contextlib.suppress(OSError):  # no directory for temporary files can be written
        # inductor's, and Triton's once inductor was used.
        defaults.append(f"{tempfile.gettempdir()}/torchinductor_")
    if not environ.get("SGLANG_CACHE_DIR"):
        # From 0.5.18 `import sglang` points Triton, inductor and FlashInfer below it.
        defaults.append(f"{home}/.cache/sglang/")
    return value.startswith(tuple(defaults))


def copy_kernels(shared: Path) -> None:
    """Copy the image's kernels of libraries that look in one directory alone; what is there stays.

    Workers that start together each write a file of their own, and rename it.
    """
    for library, name, since in _COPIED:
        source = image_kernels.directory(library)
        if source is not None and _is_torch(since):
            try:
                for file in _missing(source, shared / name):
                    whole_files.write(shared / name / file, (source / file).read_bytes())
            except OSError as error:
                log.warning("the image's %s kernels are not copied: %s", library, error)


def _is_torch(since: str | None) -> bool:
    with contextlib.suppress(ValueError):
        return since is None or versions.in_range(_version("torch").partition("+")[0], since, None)
    return False


def _missing(source: Path, target: Path) -> Iterator[Path]:
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if path.is_file() and not (target / relative).exists():
            yield relative
