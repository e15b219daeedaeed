"""Checks of what the container got from its host: environment, user, HOME, shared memory."""

import getpass
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from roll_runtime import dispatch, env, policy, user
from roll_runtime.doctor_roll import has
from roll_runtime.findings import Check, Status

_GIB = 2**30

_RAY_SHARE = 0.3
"""Ray's object store, as a share of the memory (ray.DEFAULT_OBJECT_STORE_MEMORY_PROPORTION)."""

_SHM = "/dev/shm"  # noqa: S108 - the container's shared memory itself, only looked at


def check_environment() -> Iterator[Check]:
    """Report what the engine's children would see of each variable, and why."""
    version = dispatch.sglang_version()
    after = dict(os.environ)
    env.after_upstream(version, env.before_upstream(version, after), after)
    for rule in policy.rules_for(version):
        present, future = os.environ.get(rule.name), after.get(rule.name)
        if rule.kind in (policy.Kind.DERIVE, policy.Kind.UPSTREAM):
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


def check_user() -> Iterator[Check]:
    """Report the user's name and HOME, and where each comes from."""
    uid = os.getuid()
    line = user.passwd_line(uid)
    given = next((name for name in user.NAMES if os.environ.get(name)), None)
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        yield Check(
            "user",
            Status.FAIL,
            f"uid {uid} has no line in passwd and no variable names it, and torch needs a name",
            "docker run -e USER=roll, or a user of the image (--user roll). roll_runtime "
            "sets a name where it is loaded (ROLL_RUNTIME_AUTOLOAD is not 0).",
        )
    else:
        source = f"from {given}" if given else "from passwd"
        if line is None:
            source += f"; uid {uid} has no line in passwd, so ssh and sudo refuse to run"
        yield Check("user", Status.OK, f"{name} ({source})")
    yield _home_check(uid)


def _home_check(uid: int) -> Check:
    try:
        home = Path.home().as_posix()
    except RuntimeError:
        home = ""
    if not user.is_usable(home):
        return Check(
            "HOME",
            Status.FAIL,
            f"{home or 'none'} is not writable for uid {uid}",
            "Kernel caches are kept there: docker run -e HOME=/a/writable/directory.",
        )
    if home == user.home_path(os.environ, uid):
        return Check(
            "HOME",
            Status.WARN,
            f"{home} is writable; the HOME that was set is not, so roll_runtime made this one",
            "Kernels compiled there go with the container: mount a directory and set HOME to it.",
        )
    return Check("HOME", Status.OK, f"{home} is writable")


def check_host() -> Iterator[Check]:
    """Report what the container got from its host: shared memory."""
    if not Path(_SHM).is_dir():
        yield Check(
            _SHM,
            Status.FAIL,
            "not there",
            "NCCL, torch and Ray put shared memory there: mount a tmpfs at /dev/shm.",
        )
        return
    size, memory = shutil.disk_usage(_SHM).total, memory_bytes()
    found = f"{size / _GIB:.1f} GiB"
    if not os.access(_SHM, os.W_OK):
        yield Check(
            _SHM,
            Status.FAIL,
            f"not writable for uid {os.getuid()}",
            "NCCL, torch and Ray put shared memory there: mount it with mode 1777.",
        )
    elif size < _GIB:
        yield Check(
            _SHM,
            Status.WARN,
            found,
            "NCCL and SGLang's tensor-parallel workers talk through it: docker run "
            "--shm-size=16g (or --ipc=host).",
        )
    elif has("ray") and size < _RAY_SHARE * memory:
        yield Check(
            _SHM,
            Status.WARN,
            f"{found}; Ray's object store takes {_RAY_SHARE:.0%} of the memory, "
            f"{_RAY_SHARE * memory / _GIB:.1f} GiB, and goes to the disk where that does not fit",
            f"docker run --shm-size={math.ceil(_RAY_SHARE * memory / _GIB)}g (or --ipc=host), or "
            "a smaller store: ray start --object-store-memory.",
        )
    else:
        yield Check(_SHM, Status.OK, found)


def memory_bytes() -> int:
    """Return the memory that this container may use: its limit, else the machine's."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(file).read_text()))
        except (OSError, ValueError):  # not there, or `max`
            continue
    return total
