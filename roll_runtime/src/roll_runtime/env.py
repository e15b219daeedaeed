"""Carries out the environment policy around the start of SGLang's engine.

SGLang sets its variables in `_set_envs_and_config` (`sglang/srt/entrypoints/engine.py`), some
of them whatever the operator set. `before_upstream` notes the operator's values and clears
what must not reach the engine's children; upstream then does all of its own work;
`after_upstream` restores the values and fills in the defaults.
"""

import logging
import os

from roll_runtime import caches, flashinfer_base, nvml, triton_setting
from roll_runtime.flashinfer_base import Environ
from roll_runtime.policy import NAMES, OVERRIDE, Kind, rules_for

log = logging.getLogger("roll_runtime")

_derived: dict[str, str] = {}
"""What upstream derived at the last engine start of this process: at the next start such a value is
upstream's, not the operator's."""


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
    """Clear what must not reach upstream and return the values to restore after it.

    Args:
        version: SGLang's version.
        environ: the environment to change; the process's own by default.

    Returns:
        Values by variable, for `after_upstream`.
    """
    env = os.environ if environ is None else environ
    kept: dict[str, str] = {}
    triton_setting.withdraw(env)
    shared = caches.settle(env, version)
    if shared is not None:
        caches.copy_kernels(shared)
    for rule in rules_for(version):
        if rule.kind is Kind.KEEP:
            kept[rule.name] = env.get(rule.name) or rule.value
            env[rule.name] = kept[rule.name]
        elif rule.kind is Kind.DERIVE:
            own = _clear_preset(env, rule.name)
            if own is not None:
                kept[rule.name] = own
        elif rule.kind is Kind.REMOVE:
            _remove(env, rule.name)
        elif rule.kind is Kind.WORKSPACE:
            gpus = nvml.capabilities()
            base = flashinfer_base.choose(env, _initial_flashinfer_base(), shared, gpus)
            if base is not None:
                env[rule.name] = kept[rule.name] = base
    _apply_overrides(env)
    return kept


def after_upstream(version: str, kept: dict[str, str], environ: Environ | None = None) -> None:
    """Restore the noted values over what upstream set, then the overrides over all.

    Args:
        version: SGLang's version.
        kept: what `before_upstream` returned.
        environ: the environment to change; the process's own by default.
    """
    env = os.environ if environ is None else environ
    for rule in rules_for(version):
        if rule.kind is Kind.DERIVE and rule.name not in kept:
            _derived[rule.name] = env.get(rule.name, "")
    env.update(kept)
    triton_setting.settle(env)
    _apply_overrides(env)
    log.info("engine environment: %s", describe(env))


def _apply_overrides(environ: Environ) -> None:
    for name in NAMES:
        override = _override(environ, name)
        if override is not None:
            _assign(environ, name, override or None)


def describe(environ: Environ | None = None) -> str:
    """Return the policy's variables as `NAME=value` pairs on one line; `-` means unset."""
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
