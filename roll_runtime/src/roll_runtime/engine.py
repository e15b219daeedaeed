"""The patch of `sglang/srt/entrypoints/engine.py`.

All releases have there `import signal`, a module function `_set_envs_and_config(server_args)`
that the launch looks up by its bare name, and a class `Engine`. That is all this patch relies on
(`contract.py` checks it), so there is one patch for all of them. Upstream's functions are wrapped
and called, never copied.
"""

import functools
import inspect
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

from roll_runtime import args, env, roll, served
from roll_runtime.marks import is_ours, mark
from roll_runtime.signals import ThreadAwareSignal

log = logging.getLogger("roll_runtime")


def patch_engine(module: ModuleType, version: str) -> None:
    """Patch SGLang's engine module; idempotent.

    Args:
        module: `sglang.srt.entrypoints.engine`, executed.
        version: SGLang's version.

    Raises:
        RuntimeError: the module lacks what the patch relies on.
    """
    missing = [
        name for name in ("signal", "_set_envs_and_config", "Engine") if not hasattr(module, name)
    ]
    if missing:
        raise RuntimeError(
            f"SGLang {version} has no {', '.join(missing)} in its engine module, so roll_runtime "
            "cannot patch it. Run `python -m roll_runtime doctor`; ROLL_RUNTIME_AUTOLOAD=0 runs "
            "SGLang without roll_runtime."
        )
    names = vars(module)
    if not is_ours(names["signal"]):
        names["signal"] = ThreadAwareSignal()
    if not is_ours(names["_set_envs_and_config"]):
        names["_set_envs_and_config"] = _with_policy(names["_set_envs_and_config"], version)
    if not is_ours(module.Engine.__init__):
        module.Engine.__init__ = _with_known_arguments(module.Engine.__init__, module, version)
    generate = getattr(module.Engine, "async_generate", None)
    if generate is not None and not is_ours(generate):
        module.Engine.async_generate = _with_known_inputs(generate, version)
    _keep_through_launch(module, version)


def _with_policy(upstream: Callable[..., Any], version: str) -> Callable[..., Any]:
    """Wrap `_set_envs_and_config` with the environment policy, and the check of the GPUs."""

    @functools.wraps(upstream)
    def _set_envs_and_config(*call_args: Any, **call_kwargs: Any) -> Any:
        # The first that a launch does with its arguments: no child runs, nothing is loaded.
        served.require_served(*call_args[:1])
        kept = env.before_upstream(version)
        result = upstream(*call_args, **call_kwargs)
        env.after_upstream(version, kept)
        return result

    return mark(_set_envs_and_config)


def _with_known_arguments(
    init: Callable[..., None], module: ModuleType, version: str
) -> Callable[..., Any]:
    """Wrap `Engine.__init__` so that it takes ROLL's arguments on every release."""

    @functools.wraps(init)
    def __init__(self: Any, *call_args: Any, **kwargs: Any) -> None:  # noqa: N807
        if "server_args" not in kwargs:
            record = getattr(self, "server_args_class", None) or getattr(module, "ServerArgs", None)
            known = args.field_names(record) if isinstance(record, type) else None
            kwargs = args.adapt(kwargs, known, f"SGLang {version}'s ServerArgs")
            kwargs = args.default_mem_fraction(kwargs)
        init(self, *call_args, **kwargs)

    return mark(__init__)


def _with_known_inputs(generate: Callable[..., Any], version: str) -> Callable[..., Any]:
    """Wrap `Engine.async_generate`, by which ROLL generates for some of its reward workers."""
    known = inspect.signature(generate).parameters

    @functools.wraps(generate)
    async def async_generate(self: Any, *call_args: Any, **kwargs: Any) -> Any:
        if not kwargs.keys() <= known.keys():
            kwargs = args.adapt(kwargs, known, f"SGLang {version}'s async_generate")
        return await generate(self, *call_args, **kwargs)

    return mark(async_generate)


def _keep_through_launch(module: ModuleType, version: str) -> None:
    """Keep the patch in force where ROLL overwrites names at each launch.

    Up to 0.5.9 `_launch_subprocesses` is a module function. ROLL puts a callable object in its
    place, which at each call writes its own functions into the module and then calls the one
    before. Ours is put innermost, whichever came first, so it runs after those writes. From 0.5.10
    there is no such function, and ROLL's patch cannot be loaded.
    """
    launch = getattr(module, "_launch_subprocesses", None)
    if launch is None or is_ours(launch):
        return
    holder: Any = module
    while roll.is_launch_wrapper(launch):
        holder, launch = launch, launch._launch_subprocesses
    if is_ours(launch):
        return
    holder._launch_subprocesses = _with_our_names(launch, module, version)


def _with_our_names(
    launch: Callable[..., Any], module: ModuleType, version: str
) -> Callable[..., Any]:
    names = vars(module)
    policy = names["_set_envs_and_config"]

    @functools.wraps(launch)
    def _launch_subprocesses(*call_args: Any, **kwargs: Any) -> Any:
        roll.restore_targets(module)
        current = names["_set_envs_and_config"]
        if roll.is_superseded(current):
            names["_set_envs_and_config"] = policy
        elif not is_ours(current) and not roll.is_from_roll(current):
            # Someone else's replacement: their work is done, and the policy around it.
            names["_set_envs_and_config"] = _with_policy(current, version)
        return _with_scheduler_info(launch(*call_args, **kwargs))

    return mark(_launch_subprocesses)


def _with_scheduler_info(launched: Any) -> Any:
    """Complete what 0.5.7 returns on nodes after the first.

    There it is (tokenizer manager, template manager, scheduler infos, port args) with `None` for
    the infos, and `Engine.__init__` takes the first of them: the engine would fail although its
    schedulers run. 0.5.8 returns the infos.
    """
    if isinstance(launched, tuple) and len(launched) == 4 and launched[2] is None:
        return (*launched[:2], [{}], launched[3])
    return launched
