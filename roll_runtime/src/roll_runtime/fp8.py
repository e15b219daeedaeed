"""bf16 weights quantised to block FP8 while they are loaded, at start and at each weight update.

Acts only on request, by a quantisation config without `quant_method`::

    quantization: fp8
    json_model_override_args: '{"quantization_config":
        {"activation_scheme": "dynamic", "weight_block_size": [128, 128]}}'

SGLang then allocates what it allocates for a serialised block-FP8 checkpoint
(`sglang/srt/layers/quantization/fp8.py`), and the weight loaders put here quantise what arrives
in bf16. Every other FP8 model (serialised, per-tensor, W4AFP8) goes upstream's way untouched: a
flag on the config object distinguishes them, and only the recipe above sets it.
"""

import functools
import importlib
import logging
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

from roll_runtime import versions
from roll_runtime.marks import is_ours, mark

BLOCK = (128, 128)
"""Rows and columns of one scale. SGLang's kernels take this size on every GPU."""

FP8_MAX = 448.0
"""Largest finite float8_e4m3fn."""

TINY = 2.0**-100
"""A block whose largest magnitude is below counts as zero: its scale would be no normal float32."""

_CHUNK = 1 << 24
"""Elements quantised at once: bounds the float32 copies to some hundred MB beside the weights."""

log = logging.getLogger("roll_runtime")

LOADED = "bf16 weights are quantised to block FP8 on load"
"""Begins the record that each scheduler logs when it has quantised its first weight."""

_FLAG = "roll_runtime_block_fp8"


def _torch() -> Any:
    # Imported when weights are, and untyped: this package is checked and tested without torch.
    return importlib.import_module("torch")


def is_recipe(config: dict[str, Any]) -> bool:
    """Return whether a quantisation config requests block FP8 on load."""
    return not config.get("quant_method") and config.get("weight_block_size") is not None


def check_recipe(config: dict[str, Any]) -> None:
    """Refuse a recipe that cannot be served.

    Raises:
        ValueError: another block size or activation scheme.
    """
    if list(config["weight_block_size"]) != list(BLOCK):
        raise ValueError(
            f"weight_block_size={config['weight_block_size']}: block FP8 on load has "
            f"{list(BLOCK)} alone, the size that SGLang's kernels take on every GPU."
        )
    if config.get("activation_scheme") != "dynamic":
        raise ValueError(
            f"activation_scheme={config.get('activation_scheme')!r}: block FP8 on load needs "
            '"dynamic", because weights that change have no calibrated activation scales.'
        )


def quantize_block(weight: Any) -> tuple[Any, Any]:
    """Quantise a matrix, or a stack of them, by blocks of 128x128.

    All arithmetic is in float32 whatever the weight's dtype. A block of zeros gets scale 1. Sizes
    that 128 does not divide leave smaller blocks at the edge, as in serialised checkpoints.

    Args:
        weight: a torch tensor of shape (..., rows, columns), of a floating dtype.

    Returns:
        The float8_e4m3fn tensor of the same shape, and its float32 scales of shape
        (..., ceil(rows / 128), ceil(columns / 128)): weight = value * scale.
    """
    torch = _torch()
    rows, columns = weight.shape[-2:]
    high, wide = (-(-rows // BLOCK[0]), -(-columns // BLOCK[1]))
    values = torch.empty(weight.shape, dtype=torch.float8_e4m3fn, device=weight.device)
    scales = torch.empty(
        (*weight.shape[:-2], high, wide), dtype=torch.float32, device=weight.device
    )
    flat = weight.reshape(-1, rows, columns)
    flat_values, flat_scales = values.view(flat.shape), scales.view(-1, high, wide)
    step = max(_CHUNK // (BLOCK[0] * max(columns, 1)), 1)
    for index in range(flat.shape[0]):
        for first in range(0, high, step):
            rows_of = slice(first * BLOCK[0], (first + step) * BLOCK[0])
            chunk = _quantize_chunk(flat[index, rows_of], wide)
            flat_values[index, rows_of], flat_scales[index, first : first + step] = chunk
    return values, scales


def _quantize_chunk(chunk: Any, wide: int) -> tuple[Any, Any]:
    torch = _torch()
    rows, columns = chunk.shape
    high = -(-rows // BLOCK[0])
    padding = (0, wide * BLOCK[1] - columns, 0, high * BLOCK[0] - rows)
    blocks = torch.nn.functional.pad(chunk.float(), padding)
    blocks = blocks.view(high, BLOCK[0], wide, BLOCK[1])
    largest = blocks.abs().amax(dim=(1, 3), keepdim=True)
    # Not `largest > TINY`: a NaN must give a NaN scale, not a scale that hides it.
    scale = torch.where(largest < TINY, torch.ones_like(largest), largest / FP8_MAX)
    # x / (max / 448) can round to just above 448, which e4m3fn would turn into NaN.
    scaled = (blocks / scale).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn)
    scaled = scaled.reshape(high * BLOCK[0], wide * BLOCK[1])[:rows, :columns]
    return scaled, scale[:, 0, :, 0]


def patch_fp8(module: ModuleType, version: str) -> None:
    """Patch SGLang's FP8 module; idempotent.

    Where block FP8 on load is not supported, only the refusal is installed.

    Args:
        module: `sglang.srt.layers.quantization.fp8`, executed.
        version: SGLang's version.
    """
    release = versions.find_release(version)
    supported = release is not None and release.fp8
    _wrap_from_config(module.Fp8Config, version, supported)
    if supported:
        for method, install in (
            (module.Fp8LinearMethod, _install_linear),
            (module.Fp8MoEMethod, _install_moe),
        ):
            _wrap_method(method, install, module)
        _wrap_kv_cache(module.Fp8KVCacheMethod)


def _wrap_from_config(config_class: Any, version: str, supported: bool) -> None:
    original = vars(config_class)["from_config"].__func__
    if is_ours(original):
        return

    @functools.wraps(original)
    def from_config(cls: Any, config: dict[str, Any]) -> Any:
        if not is_recipe(config):
            return original(cls, config)
        if not supported:
            raise NotImplementedError(_refusal(version))
        check_recipe(config)
        # Upstream reads the rest itself, as for a serialised checkpoint, whose layout is wanted.
        result = original(cls, {**config, "quant_method": "fp8"})
        setattr(result, _FLAG, True)
        return result

    config_class.from_config = classmethod(mark(from_config))


def _refusal(version: str) -> str:
    able = [release.version for release in versions.RELEASES if release.fp8]
    text = (
        f"Block FP8 on load (a quantization_config without quant_method) is not supported on "
        f"SGLang {version}. It is on {', '.join(able)}."
    )
    if versions.in_range(version, "0.5.6", None):
        text += (
            " This release quantises on load and on reload by itself, per channel: "
            "quantization: fp8 with load_format: flash_rl."
        )
    return text + " Or load a checkpoint that is FP8 already."


def _wrap_method(method: Any, install: Callable[..., None], module: ModuleType) -> None:
    create, process = method.create_weights, method.process_weights_after_loading
    if is_ours(create):
        return

    @functools.wraps(create)
    def create_weights(self: Any, layer: Any, *args: Any, **kwargs: Any) -> None:
        wanted = getattr(self.quant_config, _FLAG, False)
        if wanted:
            _require_kernels(self, module)
        create(self, layer, *args, **kwargs)
        if wanted:
            install(layer)

    @functools.wraps(process)
    def process_weights_after_loading(self: Any, layer: Any) -> None:
        # Upstream would install new parameters without these loaders, and then the next weight
        # update would arrive unquantised. With float32 scales nothing is left to process.
        if not getattr(self.quant_config, _FLAG, False):
            process(self, layer)

    method.create_weights = mark(create_weights)
    method.process_weights_after_loading = mark(process_weights_after_loading)


def _wrap_kv_cache(method: Any) -> None:
    """Let the KV cache's scales outlive a release of memory.

    From 0.5.6 on attention layers have them, as parameters: a release discards these, and neither a
    bf16 checkpoint nor a weight update restores them. Buffers are saved by SGLang itself
    (`_export_static_state` in `managers/scheduler_update_weights_mixin.py`).
    """
    create = method.create_weights
    if is_ours(create):
        return

    @functools.wraps(create)
    def create_weights(self: Any, layer: Any) -> None:
        create(self, layer)
        if getattr(self.quant_config, _FLAG, False):
            for name in ("k_scale", "v_scale"):
                value = getattr(layer, name).data
                delattr(layer, name)
                layer.register_buffer(name, value)

    method.create_weights = mark(create_weights)


def _require_kernels(method: Any, module: ModuleType) -> None:
    """Refuse hardware whose kernels want another layout than float32 scales beside FP8 values."""
    if any(getattr(module, name, False) for name in ("_is_hip", "_is_cpu", "_is_npu")):
        raise RuntimeError("Block FP8 on load needs an NVIDIA GPU: remove `quantization: fp8`.")
    if getattr(method, "use_marlin", False):
        raise RuntimeError(
            "Block FP8 on load needs a GPU with FP8 arithmetic (compute capability 8.9 or later): "
            "on this one SGLang repacks the weights for Marlin, and updates cannot follow. Remove "
            "`quantization: fp8`."
        )
    if _wants_ue8m0():
        raise RuntimeError(
            "Block FP8 on load has float32 scales, but DeepGEMM on this GPU takes packed UE8M0 "
            "scales. Set SGLANG_ENABLE_JIT_DEEPGEMM=0 (0.5.2: SGL_ENABLE_JIT_DEEPGEMM=0); SGLang's "
            "other block-FP8 kernels serve."
        )


def _wants_ue8m0() -> bool:
    for name in (
        "sglang.srt.layers.deep_gemm_wrapper",
        "sglang.srt.layers.quantization.deep_gemm_wrapper",
    ):
        try:
            wrapper = importlib.import_module(name)
        except ImportError:
            continue
        return bool(
            getattr(wrapper, "ENABLE_JIT_DEEPGEMM", False)
            and getattr(wrapper, "DEEPGEMM_SCALE_UE8M0", False)
        )
    return False


def _is_fp8(tensor: Any) -> bool:
    return bool(tensor.dtype == _torch().float8_e4m3fn)


@functools.cache
def _log_first(dtype: str) -> None:
    log.info("%s: the first one is %s now", LOADED, dtype)


def _log_once(parameter: Any) -> None:
    """Log, once per process, the type of a parameter after its first weight was loaded."""
    _log_first(str(parameter.dtype))


def _parameter(template: Any, loader: Callable[..., Any]) -> Any:
    """Return a plain parameter on the template's memory, loaded by `loader`."""
    parameter: Any = _torch().nn.Parameter(template.data, requires_grad=False)
    parameter.weight_loader = loader
    if hasattr(template, "format_ue8m0"):
        parameter.format_ue8m0 = False
    return parameter


def _view(kind: str, data: Any, loader: Callable[..., Any]) -> Any:
    """Return SGLang's own parameter type on a layer's memory, for SGLang's own loader.

    Its loaders read the sharded dimensions from the parameter. Created at each load, because
    memory may move between updates.
    """
    parameters = importlib.import_module("sglang.srt.layers.parameter")
    return getattr(parameters, kind)(data=data, input_dim=1, output_dim=0, weight_loader=loader)


def _install_linear(layer: Any) -> None:
    """Let a linear layer's weight quantise what is loaded into it."""
    owner = weakref.ref(layer)
    weight_loader, scale_loader = layer.weight.weight_loader, layer.weight_scale_inv.weight_loader

    def load_weight(parameter: Any, loaded: Any, *args: Any, **kwargs: Any) -> None:
        this: Any = owner()
        weight = _view("ModelWeightParameter", this.weight.data, weight_loader)
        if _is_fp8(loaded):
            weight_loader(weight, loaded, *args, **kwargs)
            return
        # Before sharding: shard borders lie on block borders, which upstream has checked.
        values, scales = quantize_block(loaded.to(parameter.device))
        weight_loader(weight, values, *args, **kwargs)
        load_scale(this.weight_scale_inv, scales, *args, **kwargs)
        _log_once(this.weight)

    def load_scale(parameter: Any, loaded: Any, *args: Any, **kwargs: Any) -> None:
        this: Any = owner()
        scale = _view("BlockQuantScaleParameter", this.weight_scale_inv.data, scale_loader)
        scale.format_ue8m0 = False
        scale_loader(scale, loaded, *args, **kwargs)

    layer.weight = _parameter(layer.weight, load_weight)
    layer.weight_scale_inv = _parameter(layer.weight_scale_inv, load_scale)
    layer.weight_block_size = list(BLOCK)


def _install_moe(layer: Any) -> None:
    """Let a mixture-of-experts layer's weights quantise what is loaded into them."""
    for name in ("w13_weight", "w2_weight"):
        _install_expert_weight(layer, name)
    layer.weight_block_size = list(BLOCK)


def _install_expert_weight(layer: Any, name: str) -> None:
    owner = weakref.ref(layer)
    weight_loader = getattr(layer, name).weight_loader

    def load(
        parameter: Any, loaded: Any, weight_name: str = name, *args: Any, **kwargs: Any
    ) -> None:
        if _is_fp8(loaded):
            weight_loader(parameter, loaded, weight_name, *args, **kwargs)
            return
        values, scales = quantize_block(loaded.to(parameter.device))
        weight_loader(parameter, values, weight_name, *args, **kwargs)
        # By the scale's own name upstream takes the path of a serialised checkpoint.
        scale = getattr(owner(), f"{name}_scale_inv")
        scale.weight_loader(scale, scales, f"{weight_name}_scale_inv", *args, **kwargs)
        _log_once(getattr(owner(), name))

    getattr(layer, name).weight_loader = load
