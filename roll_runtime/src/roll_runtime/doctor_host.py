"""What the container got from its host: environment, HOME, shared memory."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from roll_runtime import dispatch, env, policy
from roll_runtime.findings import Check, Status

_GIB = 2**30
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
