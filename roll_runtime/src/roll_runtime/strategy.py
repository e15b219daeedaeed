"""The patch of ROLL's strategy for SGLang (`roll/distributed/strategy/sglang_strategy.py`, read at
8eb27cc2): what it would not notice, or what ends an engine, is an error that names the cause.
"""

import functools
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

from roll_runtime import versions
from roll_runtime.marks import is_ours, mark
from roll_runtime.placement import check_worker_config

log = logging.getLogger("roll_runtime")

UPDATES = (
    "init_weights_update_group",
    "update_weights_from_distributed",
    "update_weights_from_tensor",
)
"""The calls of ROLL's engine that SGLang answers with whether it did them, and why not. ROLL's
workers drop the answer: a job would go on with the weights before."""

REPLAY_UNTIL = "0.5.10"
"""From here on SGLang answers with the routed experts as text, where ROLL expects a tensor."""


def patch_strategy(module: ModuleType, version: str) -> None:
    """Let a worker check its configuration first, and heed what SGLang answers; idempotent.

    Args:
        module: ROLL's, executed.
        version: SGLang's version.
    """
    strategy: Any = module.SgLangStrategy
    if is_ours(strategy.initialize):
        return
    strategy.initialize = mark(_checked(strategy.initialize, version))
    engine = getattr(module, "SglangEngine", None)
    for name in UPDATES:
        if callable(upstream := getattr(engine, name, None)):
            setattr(engine, name, mark(_heeded(upstream, name)))
    if callable(create := getattr(module, "create_sampling_params_for_sglang", None)):
        names = vars(module)
        names["create_sampling_params_for_sglang"] = mark(_without_strings(create))


def _checked(upstream: Callable[..., Any], version: str) -> Callable[..., Any]:
    @functools.wraps(upstream)
    async def initialize(self: Any, *args: Any, **kwargs: Any) -> Any:
        config = self.worker_config
        check_worker_config(config)
        refuse_replay(getattr(getattr(config, "router_replay", None), "mode", "disable"), version)
        refuse_stop_strings(getattr(getattr(config, "generating_args", None), "stop_strings", None))
        return await upstream(self, *args, **kwargs)

    return initialize


def _heeded(upstream: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(upstream)
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = await upstream(self, *args, **kwargs)
        if isinstance(answer, tuple) and answer and answer[0] is False:
            text = f"SGLang did not carry out {name}: {', '.join(map(str, answer[1:]))}"
            # A trainer that waits in a broadcast keeps ROLL from seeing the exception.
            log.error("%s", text)
            raise RuntimeError(text)
        return answer

    return call


def _without_strings(upstream: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(upstream)
    def create_sampling_params_for_sglang(*args: Any, **kwargs: Any) -> Any:
        found = upstream(*args, **kwargs)
        refuse_stop_strings(found.get("stop"))
        return found

    return create_sampling_params_for_sglang


def refuse_stop_strings(strings: Any) -> None:
    """Refuse strings that end an answer: ROLL's engines have no tokenizer to find them.

    Args:
        strings: ROLL's `stop_strings`.

    Raises:
        ValueError: there are any. SGLang's scheduler would end at the first such request
            (`Req.tail_str`), or from 0.5.15 on refuse each of them.
    """
    if strings:
        raise ValueError(
            f"stop_strings={strings!r}: ROLL starts SGLang without a tokenizer "
            "(skip_tokenizer_init), so SGLang cannot look for strings, and up to 0.5.13 its "
            "scheduler would end. Leave stop_strings out of generating_args."
        )


def refuse_replay(mode: str, version: str) -> None:
    """Refuse to replay the routing of experts where ROLL cannot read SGLang's answer.

    Args:
        mode: ROLL's `router_replay.mode`.
        version: SGLang's version.

    Raises:
        ValueError: experts are to be replayed, and this release answers with text.
    """
    if mode != "disable" and versions.in_range(version, REPLAY_UNTIL, None):
        raise ValueError(
            f"router_replay.mode={mode}: SGLang {version} sends the routed experts as text, and "
            f"this ROLL expects a tensor, as releases before {REPLAY_UNTIL} send it. Set "
            "router_replay.mode: disable, or use an image with SGLang 0.5.7 to 0.5.9."
        )
