"""The environment policy: what an engine's processes see, and why. The one table.

SGLang sets its variables in ``_set_envs_and_config`` (``sglang/srt/entrypoints/engine.py``), some
of them whatever the operator wanted. :func:`before_upstream` notes the operator's wishes and clears
what must not reach the engine's children; upstream then does all of its own work;
:func:`after_upstream` restores the wishes and fills in the defaults.

Who wins, first to last:

1. ``ROLL_RUNTIME_SET_<NAME>=value`` (empty: the variable is removed), for every variable below;
2. a value found in the environment, where the rule says that it is a wish;
3. the rule's default.
"""

import logging
import os
from collections.abc import MutableMapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from roll_runtime import versions

log = logging.getLogger("roll_runtime")

Environ = MutableMapping[str, str]

#: Prefix of the variables that override one rule each.
OVERRIDE = "ROLL_RUNTIME_SET_"


class Kind(Enum):
    """How a rule treats its variable."""

    #: A value in the environment is kept, whatever upstream sets; else the default.
    KEEP = "keep, else default"
    #: Upstream derives it from the engine's arguments; ROLL's preset "0" counts as absent and any
    #: other value in the environment is kept.
    DERIVE = "derive from the engine's arguments"
    #: Upstream's own rule is right; only the override acts.
    UPSTREAM = "leave to SGLang"
    #: Removed before the engine's children start.
    REMOVE = "remove"
    #: See :func:`flashinfer_base`.
    WORKSPACE = "shared when warm, else per worker"


@dataclass(frozen=True)
class Rule:
    """One row of the policy.

    Attributes:
        name: the environment variable.
        kind: how it is treated.
        value: the default, for ``Kind.KEEP``.
        since: first SGLang version of the rule, or ``None``.
        before: first SGLang version without it, or ``None``.
        upstream: what SGLang itself does in those versions.
        reason: why the rule is there.
    """

    name: str
    kind: Kind
    upstream: str
    reason: str
    value: str = ""
    since: str | None = None
    before: str | None = None

    def covers(self, version: str) -> bool:
        """Tell whether the rule holds for an SGLang version; one that is no version is newest."""
        try:
            return versions.in_range(version, self.since, self.before)
        except ValueError:
            return self.before is None


_ALLOC_REASON = (
    "ROLL presets expandable_segments:True for its trainers. torch_memory_saver, which frees and "
    "restores the engine's memory between rollouts, refuses to start with it."
)

POLICY: tuple[Rule, ...] = (
    Rule(
        "CUDA_DEVICE_MAX_CONNECTIONS",
        Kind.KEEP,
        value="4",
        before="0.5.4",
        upstream="sets 4, always",
        reason="Four hardware queues are what ROLL runs its rollouts with on every version.",
    ),
    Rule(
        "CUDA_DEVICE_MAX_CONNECTIONS",
        Kind.KEEP,
        value="4",
        since="0.5.4",
        upstream="sets 8, always",
        reason="Four hardware queues are what ROLL runs its rollouts with on every version.",
    ),
    Rule(
        "CUDA_MODULE_LOADING",
        Kind.KEEP,
        value="AUTO",
        before="0.5.20",
        upstream="sets AUTO, always",
        reason="CUDA's own choice; an operator who debugs module loading may want LAZY or EAGER.",
    ),
    Rule(
        "CUDA_MODULE_LOADING",
        Kind.KEEP,
        value="AUTO",
        since="0.5.20",
        upstream="does not set it",
        reason="Kept the same on every version, so that images of two versions compare.",
    ),
    Rule(
        "TRTLLM_ENABLE_PDL",
        Kind.KEEP,
        value="1",
        since="0.5.2",
        upstream='sets 1 unless it is "0"',
        reason="FlashInfer's kernels overlap their launches with it (programmatic launch).",
    ),
    Rule(
        "NCCL_CUMEM_ENABLE",
        Kind.DERIVE,
        before="0.4.10",
        upstream="sets 0, always (there is no enable_symm_mem)",
        reason="0 unless the operator set another value.",
    ),
    Rule(
        "NCCL_CUMEM_ENABLE",
        Kind.DERIVE,
        since="0.4.10",
        before="0.5.4",
        upstream="sets int(enable_symm_mem), always",
        reason="Follows enable_symm_mem; an operator's own non-zero value is kept.",
    ),
    Rule(
        "NCCL_CUMEM_ENABLE",
        Kind.DERIVE,
        since="0.5.4",
        before="0.5.5",
        upstream="sets int(enable_symm_mem) only when it is absent",
        reason="ROLL's workers preset 0, with which upstream would lose enable_symm_mem=True.",
    ),
    Rule(
        "NCCL_CUMEM_ENABLE",
        Kind.UPSTREAM,
        since="0.5.5",
        upstream="sets int(enable_symm_mem) when it is absent or symmetric memory is on; later "
        "releases also turn it on for multi-node NVLink, deepep_v2 and KV-cache sharding",
        reason="Upstream keeps a preset and still follows enable_symm_mem.",
    ),
    Rule(
        "NCCL_NVLS_ENABLE",
        Kind.DERIVE,
        before="0.4.10",
        upstream="sets int(enable_nccl_nvls), always",
        reason="Follows enable_nccl_nvls; an operator's own non-zero value is kept.",
    ),
    Rule(
        "NCCL_NVLS_ENABLE",
        Kind.DERIVE,
        since="0.4.10",
        before="0.5.5",
        upstream="sets int(enable_nccl_nvls) unless enable_symm_mem is on",
        reason="ROLL's workers preset 0, which would stay with enable_symm_mem=True; removed, the "
        "choice is NCCL's.",
    ),
    Rule(
        "NCCL_NVLS_ENABLE",
        Kind.UPSTREAM,
        since="0.5.5",
        upstream="sets int(enable_nccl_nvls or enable_symm_mem) when it is absent or one is on",
        reason="Upstream keeps a preset and still follows both arguments.",
    ),
    Rule(
        "PYTORCH_CUDA_ALLOC_CONF",
        Kind.REMOVE,
        upstream="does not touch it",
        reason=_ALLOC_REASON,
    ),
    Rule(
        "PYTORCH_ALLOC_CONF",
        Kind.REMOVE,
        upstream="does not touch it",
        reason="The same setting by the name that torch 2.9 and later read first. " + _ALLOC_REASON,
    ),
    Rule(
        "FLASHINFER_WORKSPACE_BASE",
        Kind.WORKSPACE,
        before="0.5.18",
        upstream="does not set it",
        reason="Workers that compile the same kernels at once must not share a directory on a "
        "network HOME, and a cache that is already warm must not be compiled again per worker.",
    ),
    Rule(
        "FLASHINFER_WORKSPACE_BASE",
        Kind.WORKSPACE,
        since="0.5.18",
        upstream="`import sglang` sets SGLANG_CACHE_DIR (~/.cache/sglang) when it is absent",
        reason="Workers that compile the same kernels at once must not share a directory on a "
        "network HOME, and a cache that is already warm must not be compiled again per worker.",
    ),
    Rule(
        "SGLANG_BLOCK_NONZERO_RANK_CHILDREN",
        Kind.KEEP,
        value="0",
        upstream="reads it",
        reason="On nodes after the first, Engine would otherwise block the actor for ever. Set 1 "
        "for a multi-node `sglang.launch_server`, which needs the blocking.",
    ),
)

#: Names in the table's order, once each.
NAMES: tuple[str, ...] = tuple(dict.fromkeys(rule.name for rule in POLICY))

#: What upstream derived at the last engine start of this process: at the next start such a value
#: is upstream's, not the operator's.
_derived: dict[str, str] = {}


def rules_for(version: str) -> tuple[Rule, ...]:
    """Return the rules that hold for one SGLang version, at most one for a variable."""
    return tuple(rule for rule in POLICY if rule.covers(version))


def _worker_base(environ: Environ) -> str:
    """Return ``~/.cache/<WORKER_NAME>``, the directory that ROLL gives a worker."""
    return os.path.join(Path.home().as_posix(), ".cache", environ.get("WORKER_NAME", ""))  # noqa: PTH118


def _sglang_base(environ: Environ) -> str:
    """Return the base that SGLang 0.5.18 and later set on import (``srt/environ.py``)."""
    configured = environ.get("SGLANG_CACHE_DIR") or "~/.cache/sglang"
    return os.path.expanduser(configured)  # noqa: PTH111


def is_warm(base: str) -> bool:
    """Tell whether a FlashInfer base holds at least one compiled kernel.

    FlashInfer keeps them in ``<base>/.cache/flashinfer/[<version>/]<arch>/cached_ops/<name>/``.
    """
    cache = Path(base) / ".cache" / "flashinfer"
    patterns = ("*/cached_ops/*/*.so", "*/*/cached_ops/*/*.so")
    return any(True for pattern in patterns for _ in cache.glob(pattern))


def _is_writable(base: str) -> bool:
    # FlashInfer opens a log and takes a lock per kernel below it, also when nothing is compiled.
    return os.access(Path(base) / ".cache" / "flashinfer", os.W_OK | os.X_OK)


def flashinfer_base(environ: Environ, initial: str = "") -> str | None:
    """Choose ``FLASHINFER_WORKSPACE_BASE`` for this worker; ``None`` leaves FlashInfer's default.

    The operator's own value is kept: the one in the environment unless it is only ROLL's or
    SGLang's default, else the one that the interpreter started with. Without one, a warm cache
    below HOME or SGLang's cache directory is shared by all workers (FlashInfer locks each kernel);
    else each worker, by its WORKER_NAME, gets the directory that ROLL would give it.

    Args:
        environ: the environment at engine start.
        initial: the variable's value when the interpreter started.
    """
    current = environ.get("FLASHINFER_WORKSPACE_BASE", "")
    defaults = {_worker_base(environ), _sglang_base(environ), ""}
    for wish in (current, initial):
        if wish not in defaults:
            return wish
    for base in (Path.home().as_posix(), _sglang_base(environ)):
        if not is_warm(base):
            continue
        if _is_writable(base):
            return base
        log.warning(
            "The compiled FlashInfer kernels below %s cannot be used, because that directory is "
            "not writable for uid %d: this worker compiles its own. Make it writable, or set "
            "FLASHINFER_WORKSPACE_BASE.",
            base,
            os.getuid(),
        )
    if environ.get("WORKER_NAME"):
        return _worker_base(environ)
    return current or None


def _assign(environ: Environ, name: str, value: str | None) -> None:
    if value is None:
        environ.pop(name, None)
    else:
        environ[name] = value


def _override(environ: Environ, name: str) -> str | None:
    return environ.get(OVERRIDE + name)


def _remove(environ: Environ, name: str) -> None:
    value = environ.pop(name, None)
    if value not in (None, "", "expandable_segments:True"):
        log.warning(
            "%s=%s is removed for the engine: torch_memory_saver refuses expandable segments. "
            "To keep it, set %s%s=%s.",
            name,
            value,
            OVERRIDE,
            name,
            value,
        )


def _clear_preset(environ: Environ, name: str) -> str | None:
    """Clear a "0" or a value that upstream derived earlier; return the operator's own value."""
    value = environ.get(name)
    if value in (None, "", "0") or value == _derived.get(name):
        environ.pop(name, None)
        return None
    return value


def _initial_flashinfer_base() -> str:
    # Read through the hook only if it ran: without autoload nothing was recorded.
    import sys

    hooks = sys.modules.get("roll_runtime._hooks")
    return getattr(hooks, "INITIAL_FLASHINFER_BASE", "")


def before_upstream(version: str, environ: Environ | None = None) -> dict[str, str]:
    """Clear what must not reach upstream and return what is to stand after it.

    Args:
        version: SGLang's version.
        environ: the environment to change; the process's own by default.

    Returns:
        Values by variable, for :func:`after_upstream`.
    """
    env = os.environ if environ is None else environ
    wishes: dict[str, str] = {}
    for rule in rules_for(version):
        if rule.kind is Kind.KEEP:
            wishes[rule.name] = env.get(rule.name) or rule.value
            env[rule.name] = wishes[rule.name]
        elif rule.kind is Kind.DERIVE:
            own = _clear_preset(env, rule.name)
            if own is not None:
                wishes[rule.name] = own
        elif rule.kind is Kind.REMOVE:
            _remove(env, rule.name)
        elif rule.kind is Kind.WORKSPACE:
            base = flashinfer_base(env, _initial_flashinfer_base())
            if base is not None:
                env[rule.name] = wishes[rule.name] = base
    _apply_overrides(env)
    return wishes


def after_upstream(version: str, wishes: dict[str, str], environ: Environ | None = None) -> None:
    """Restore the wishes over what upstream set, then the overrides over all.

    Args:
        version: SGLang's version.
        wishes: what :func:`before_upstream` returned.
        environ: the environment to change; the process's own by default.
    """
    env = os.environ if environ is None else environ
    for rule in rules_for(version):
        if rule.kind is Kind.DERIVE and rule.name not in wishes:
            _derived[rule.name] = env.get(rule.name, "")
    env.update(wishes)
    _apply_overrides(env)
    log.info("engine environment: %s", describe(env))


def _apply_overrides(environ: Environ) -> None:
    for name in NAMES:
        override = _override(environ, name)
        if override is not None:
            _assign(environ, name, override or None)


def describe(environ: Environ | None = None) -> str:
    """Return the policy's variables as ``NAME=value`` pairs on one line; ``-`` means unset."""
    env = os.environ if environ is None else environ
    return " ".join(f"{name}={env.get(name, '-')}" for name in NAMES)


def prepare_engine_env(worker_name: str | None = None, version: str | None = None) -> None:
    """Apply the policy by hand, before SGLang is imported.

    Only needed where the engine itself is not started by this process; else the policy is applied
    at engine start, also after this call.

    Args:
        worker_name: ROLL's name of this worker, for its FlashInfer directory; WORKER_NAME if None.
        version: SGLang's version; the installed one if None.
    """
    from roll_runtime.dispatch import sglang_version

    if worker_name is not None:
        os.environ["WORKER_NAME"] = worker_name
    before_upstream(version or sglang_version())
