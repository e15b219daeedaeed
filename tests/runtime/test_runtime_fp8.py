"""Block FP8 on load: numbers against float64, and SGLang's own loaders around them, on the CPU."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from runtime_support import Trees

from roll_runtime import fp8

torch: Any = pytest.importorskip(
    "torch", reason="FP8 numerics need torch (CPU is enough): pip install torch numpy"
)
np: Any = pytest.importorskip(
    "numpy", reason="the float64 reference of FP8 needs numpy: pip install torch numpy"
)


def e4m3fn_values() -> Any:
    """Return all finite non-negative float8_e4m3fn values, from the format's definition."""
    values = []
    for bits in range(0x7F):  # 0x7F is NaN
        exponent, mantissa = bits >> 3, bits & 7
        if exponent == 0:
            values.append(mantissa / 8 * 2.0**-6)
        else:
            values.append((1 + mantissa / 8) * 2.0 ** (exponent - 7))
    return np.array(values)


TABLE = e4m3fn_values()


def nearest(values: Any) -> Any:
    """Round float64 to float8_e4m3fn: nearest, ties to even, saturating."""
    magnitude = np.minimum(np.abs(values), TABLE[-1])
    above = np.clip(np.searchsorted(TABLE, magnitude), 0, len(TABLE) - 1)
    below = np.maximum(above - 1, 0)
    up, down = TABLE[above] - magnitude, magnitude - TABLE[below]
    take_above = (up < down) | ((up == down) & (above % 2 == 0))
    return np.sign(values) * np.where(take_above, TABLE[above], TABLE[below])


def reference(weight: Any) -> tuple[Any, Any]:
    """Quantise one matrix by 128x128 blocks in float64; return rounded values and scales."""
    rows, columns = weight.shape
    values = np.zeros((rows, columns))
    scales = np.ones((-(-rows // 128), -(-columns // 128)))
    for high in range(scales.shape[0]):
        for wide in range(scales.shape[1]):
            part = np.s_[high * 128 : (high + 1) * 128, wide * 128 : (wide + 1) * 128]
            block = weight[part]
            if np.abs(block).max() >= fp8.TINY:
                scales[high, wide] = np.abs(block).max() / 448.0
            values[part] = nearest(block / scales[high, wide])
    return values, scales


def numbers(rows: int, columns: int, seed: int, spread: float = 1.0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    exponent = torch.randn(rows, columns, generator=generator) * spread
    return (torch.randn(rows, columns, generator=generator) * 2.0**exponent * 0.02).bfloat16()


@pytest.mark.parametrize(
    ("rows", "columns"), [(128, 128), (256, 384), (128, 64), (130, 257), (1, 1), (576, 512)]
)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_against_float64(rows: int, columns: int, dtype: str) -> None:
    weight = numbers(rows, columns, seed=rows, spread=3).to(getattr(torch, dtype))
    values, scales = fp8.quantize_block(weight)
    assert values.dtype == torch.float8_e4m3fn
    assert scales.dtype == torch.float32
    assert values.shape == weight.shape
    exact_values, exact_scales = reference(weight.double().numpy())
    assert scales.shape == exact_scales.shape
    np.testing.assert_allclose(scales.double().numpy(), exact_scales, rtol=2**-23)
    # Each value is the nearest one. On a border between two, float32's rounding may choose either.
    ours = values.double().numpy()
    spread = np.repeat(np.repeat(exact_scales, 128, 0), 128, 1)[:rows, :columns]
    wanted = weight.double().numpy() / spread
    excess = np.abs(ours - wanted) - np.abs(exact_values - wanted)
    assert (excess <= np.abs(wanted) * 2**-21).all()
    assert (ours != exact_values).mean() < 0.01


def test_error_is_that_of_the_format() -> None:
    """Half a step of e4m3fn: 1/16 of the value, or of the block's smallest normal number."""
    weight = numbers(512, 768, seed=1)
    values, scales = fp8.quantize_block(weight)
    spread = scales.double().repeat_interleave(128, 0).repeat_interleave(128, 1)
    error = (values.double() * spread - weight.double()).abs()
    bound = torch.maximum(weight.double().abs() / 16, spread * 2.0**-6 / 16)
    assert (error <= bound * (1 + 1e-6)).all()
    largest = weight.double().abs().max()
    assert torch.isclose((values.double() * spread).abs().max(), largest, rtol=1e-6)


def test_scales_are_finer_than_bf16() -> None:
    """ROLL computes them in the weight's dtype: wrong by up to 1/256."""
    weight = torch.full((128, 128), 0.0123, dtype=torch.bfloat16)
    _, scales = fp8.quantize_block(weight)
    exact = weight[0, 0].double() / 448
    assert abs(scales[0, 0].double() / exact - 1) < 2**-23


def test_blocks_of_zeros() -> None:
    weight = numbers(256, 256, seed=2)
    weight[:128, :128] = 0
    values, scales = fp8.quantize_block(weight)
    assert scales[0, 0] == 1
    assert (values[:128, :128].float() == 0).all()
    assert torch.isfinite(scales).all()
    assert torch.isfinite(values.float()).all()


@pytest.mark.parametrize("size", [2.0**-133, 2.0**-120, 3e38])
def test_extreme_sizes_stay_finite(size: float) -> None:
    weight = torch.full((128, 128), size, dtype=torch.bfloat16)
    values, scales = fp8.quantize_block(weight)
    assert torch.isfinite(values.float()).all()
    assert torch.isfinite(scales).all()
    assert (scales > 0).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_weights_are_not_hidden(bad: float) -> None:
    weight = numbers(256, 128, seed=3)
    weight[5, 7] = bad
    values, scales = fp8.quantize_block(weight)
    product = values.float() * scales.repeat_interleave(128, 0).repeat_interleave(128, 1)
    assert not torch.isfinite(product[:128]).all()
    assert torch.isfinite(product[128:]).all()


def test_stack_of_matrices_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Experts come stacked, and large matrices in pieces: the result is the same."""
    stack = torch.stack([numbers(300, 200, seed) for seed in range(3)])
    values, scales = fp8.quantize_block(stack)
    monkeypatch.setattr(fp8, "_CHUNK", 1)
    for index in range(3):
        alone = fp8.quantize_block(stack[index])
        assert torch.equal(values[index].view(torch.uint8), alone[0].view(torch.uint8))
        assert torch.equal(scales[index], alone[1])


def test_input_is_not_changed() -> None:
    weight = numbers(128, 128, seed=4).float()
    copy = weight.clone()
    fp8.quantize_block(weight.t())
    assert torch.equal(weight, copy)


# SGLang's own files, around our loaders.

RECIPE = {"activation_scheme": "dynamic", "weight_block_size": [128, 128]}


class Distribution:
    """The tensor-parallel group that SGLang's files ask for."""

    rank, size = 0, 1


class Anything:
    """Stands for what SGLang's files import and these tests do not run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        return None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return Anything()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __bool__(self) -> bool:
        return False


class StubModule(ModuleType):
    """A module that has every name: classes for capitals, falsy callables for the rest."""

    __path__: list[str] = []  # noqa: RUF012 - of the instance, as import wants it

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "get_tensor_model_parallel_world_size":
            return lambda: Distribution.size
        if name == "get_tensor_model_parallel_rank":
            return lambda: Distribution.rank
        if name == "BLOCK":
            return type("Block", (), {"value": "block"})
        if name == "set_weight_attrs":
            return set_weight_attrs
        if name == "divide":
            return lambda number, by: number // by
        if name.isupper():
            return False
        value: Any = type(name, (Anything,), {}) if name[0].isupper() else Anything()
        if name == "FusedMoeWeightScaleSupported":
            value.BLOCK = type("Block", (), {"value": "block"})
        if name == "LinearBase":
            value = torch.nn.Module
        setattr(self, name, value)
        return value


def set_weight_attrs(weight: Any, attributes: dict[str, Any] | None) -> None:
    for name, value in (attributes or {}).items():
        setattr(weight, name, value)


class Finder:
    """Real files for the modules under test, stubs for the rest of SGLang and its needs."""

    real = (
        "sglang.srt.layers.parameter",
        "sglang.srt.layers.linear",
        "sglang.srt.layers.quantization.base_config",
        "sglang.srt.layers.quantization.fp8",
        "sglang.srt.layers.quantization.kv_cache",
    )

    def __init__(self, tree: Path) -> None:
        self.tree = tree

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name in self.real:
            file = self.tree.joinpath(*name.split(".")).with_suffix(".py")
            return importlib.util.spec_from_file_location(name, file)
        if name.partition(".")[0] in ("sglang", "sgl_kernel", "vllm", "aiter"):
            if name.startswith("vllm"):
                raise ImportError(name)
            return importlib.util.spec_from_loader(name, self, is_package=True)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: Any) -> ModuleType:
        return StubModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        return None


def load(tree: Path) -> Iterator[tuple[Any, Any]]:
    finder: Any = Finder(tree)
    sys.meta_path.insert(0, finder)
    Distribution.rank, Distribution.size = 0, 1
    try:
        linear = importlib.import_module("sglang.srt.layers.linear")
        module = importlib.import_module("sglang.srt.layers.quantization.fp8")
        yield linear, module
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "sglang"]:
            del sys.modules[name]


@pytest.fixture
def sglang_fp8(sglang_tree: Trees, fp8_version: str) -> Iterator[tuple[Any, Any]]:
    """SGLang's real linear.py and fp8.py, the latter patched."""
    for linear, module in load(sglang_tree(fp8_version)):
        fp8.patch_fp8(module, fp8_version)
        fp8.patch_fp8(module, fp8_version)
        yield linear, module


def config_of(module: Any, **given: Any) -> Any:
    return module.Fp8Config.from_config({**RECIPE, **given})


def column_layer(linear: Any, config: Any, sizes: list[int], inputs: int) -> Any:
    """Return SGLang's own merged column-parallel layer (gate and up, as in every dense model)."""
    return linear.MergedColumnParallelLinear(
        inputs,
        sizes,
        bias=False,
        params_dtype=torch.bfloat16,
        quant_config=config,
        tp_rank=Distribution.rank,
        tp_size=Distribution.size,
    )


def expected(weight: Any) -> tuple[Any, Any]:
    return fp8.quantize_block(weight)


def same(one: Any, other: Any) -> bool:
    return bool(torch.equal(one.view(torch.uint8), other.contiguous().view(torch.uint8)))


@pytest.mark.parametrize("rank", [0, 1])
def test_merged_column_layer_loads_bf16(sglang_fp8: tuple[Any, Any], rank: int) -> None:
    linear, module = sglang_fp8
    Distribution.rank, Distribution.size = rank, 2
    layer = column_layer(linear, config_of(module), [512, 512], 256)
    gate, up = numbers(512, 256, 10), numbers(512, 256, 11)
    for update in range(2):
        if update:
            # A weight update after the first load: the loaders must still be there.
            gate, up = numbers(512, 256, 20), numbers(512, 256, 21)
        for shard, loaded in enumerate((gate, up)):
            layer.weight.weight_loader(layer.weight, loaded, shard)
        layer.quant_method.process_weights_after_loading(layer)
        for shard, loaded in enumerate((gate, up)):
            values, scales = expected(loaded[rank * 256 : (rank + 1) * 256])
            assert same(layer.weight.data[shard * 256 : (shard + 1) * 256], values)
            assert torch.equal(layer.weight_scale_inv.data[shard * 2 : (shard + 1) * 2], scales)
    assert layer.weight_scale_inv.dtype == torch.float32
    assert type(layer.weight) is torch.nn.Parameter


def test_first_quantised_weight_is_logged_once(
    sglang_fp8: tuple[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    linear, module = sglang_fp8
    Distribution.rank, Distribution.size = 0, 1
    layer = column_layer(linear, config_of(module), [256], 256)
    fp8._log_first.cache_clear()
    with caplog.at_level("INFO", logger="roll_runtime"):
        layer.weight.weight_loader(layer.weight, quantized := expected(numbers(256, 256, 1))[0], 0)
        assert quantized.dtype == torch.float8_e4m3fn
        assert fp8.LOADED not in caplog.text, "a serialised FP8 weight is not quantised"
        for seed in (2, 3):
            layer.weight.weight_loader(layer.weight, numbers(256, 256, seed), 0)
    assert caplog.text.count(f"{fp8.LOADED}: the first one is torch.float8_e4m3fn now") == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_row_layer_loads_bf16(sglang_fp8: tuple[Any, Any], rank: int) -> None:
    linear, module = sglang_fp8
    Distribution.rank, Distribution.size = rank, 2
    layer = linear.RowParallelLinear(
        512,
        384,
        bias=False,
        params_dtype=torch.bfloat16,
        quant_config=config_of(module),
        tp_rank=rank,
        tp_size=2,
    )
    loaded = numbers(384, 512, 12)
    layer.weight.weight_loader(layer.weight, loaded)
    values, scales = expected(loaded[:, rank * 256 : (rank + 1) * 256].contiguous())
    assert same(layer.weight.data, values)
    assert torch.equal(layer.weight_scale_inv.data, scales)


@pytest.mark.parametrize("rank", [0, 1])
def test_qkv_layer_loads_bf16(sglang_fp8: tuple[Any, Any], rank: int) -> None:
    linear, module = sglang_fp8
    Distribution.rank, Distribution.size = rank, 2
    layer = linear.QKVParallelLinear(
        256,
        128,
        4,
        2,
        bias=False,
        params_dtype=torch.bfloat16,
        quant_config=config_of(module),
        tp_rank=rank,
        tp_size=2,
    )
    parts = {"q": numbers(512, 256, 13), "k": numbers(256, 256, 14), "v": numbers(256, 256, 15)}
    first = 0
    for name, loaded in parts.items():
        layer.weight.weight_loader(layer.weight, loaded, name)
        rows = loaded.shape[0] // 2
        values, scales = expected(loaded[rank * rows : (rank + 1) * rows])
        assert same(layer.weight.data[first : first + rows], values)
        blocks = slice(first // 128, (first + rows) // 128)
        assert torch.equal(layer.weight_scale_inv.data[blocks], scales)
        first += rows


def test_serialised_weights_pass_as_they_are(sglang_fp8: tuple[Any, Any]) -> None:
    """An FP8 update (values and scales) into a layer made for bf16: nothing is quantised twice."""
    linear, module = sglang_fp8
    layer = column_layer(linear, config_of(module), [256, 256], 256)
    values, scales = expected(numbers(256, 256, 16) * 3)
    for shard in (0, 1):
        layer.weight.weight_loader(layer.weight, values, shard)
        layer.weight_scale_inv.weight_loader(layer.weight_scale_inv, scales, shard)
    assert same(layer.weight.data[256:], values)
    assert torch.equal(layer.weight_scale_inv.data[2:], scales)


@pytest.mark.parametrize(
    "given",
    [
        {"quant_method": "fp8"},
        {"quant_method": "fp8", "weight_block_size": None},
        {"quant_method": "fp8", "weight_block_size": None, "activation_scheme": "static"},
    ],
)
def test_other_fp8_models_are_upstreams(
    sglang_tree: Trees, fp8_version: str, given: dict[str, Any]
) -> None:
    """Serialised, per-tensor and static models: parameters and loaders as without the patch."""
    seen = []
    for patched in (False, True):
        for linear, module in load(sglang_tree(fp8_version)):
            if patched:
                fp8.patch_fp8(module, fp8_version)
            layer = column_layer(linear, config_of(module, **given), [256, 256], 256)
            parameters = {
                name: (type(value).__name__, tuple(value.shape), str(value.dtype))
                for name, value in layer.named_parameters()
            }
            loader = layer.weight.weight_loader
            owner = getattr(loader, "__qualname__", str(loader))
            seen.append((parameters, owner, layer.weight.dtype))
    assert seen[0] == seen[1]
    # Twice the same: with the patch, and without it.
    assert len(seen) == 2


def test_ignored_layers_are_kept(sglang_fp8: tuple[Any, Any]) -> None:
    """ROLL's own from_config drops `modules_to_not_convert` where upstream knows it."""
    _, module = sglang_fp8
    config = config_of(module, ignored_layers=["lm_head"])
    # 0.5.10 adds `model.lm_head` beside it.
    assert "lm_head" in config.ignored_layers
    assert config.is_checkpoint_fp8_serialized
    assert config.weight_block_size == [128, 128]


class Experts(torch.nn.Module):  # type: ignore[misc]
    """A mixture-of-experts layer, with a loader that shards as FusedMoE's does."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def weight_loader(
        self, parameter: Any, loaded: Any, weight_name: str, shard_id: str, expert_id: int
    ) -> None:
        self.names.append(weight_name)
        data = parameter.data[expert_id]
        if shard_id == "w2":
            part = loaded.chunk(Distribution.size, dim=1)[Distribution.rank]
        else:
            part = loaded.chunk(Distribution.size, dim=0)[Distribution.rank]
            rows = data.shape[0] // 2
            data = data[:rows] if shard_id == "w1" else data[rows:]
        assert data.shape == part.shape
        data.copy_(part)


@pytest.mark.parametrize("rank", [0, 1])
def test_experts_load_bf16(sglang_fp8: tuple[Any, Any], rank: int) -> None:
    _, module = sglang_fp8
    Distribution.rank, Distribution.size = rank, 2
    method = module.Fp8MoEMethod(config_of(module))
    layer = Experts()
    method.create_weights(layer, 2, 256, 128, torch.bfloat16, weight_loader=layer.weight_loader)
    for expert in range(2):
        for shard, shape in (("w1", (256, 256)), ("w3", (256, 256)), ("w2", (256, 256))):
            name = "w2_weight" if shard == "w2" else "w13_weight"
            loaded = numbers(*shape, seed=30 + expert)
            parameter = getattr(layer, name)
            parameter.weight_loader(
                parameter, loaded, f"model.experts.{name}", shard_id=shard, expert_id=expert
            )
            half = slice(rank * 128, (rank + 1) * 128)
            part = loaded[:, half] if shard == "w2" else loaded[half]
            values, scales = expected(part.contiguous())
            place = slice(128, 256) if shard == "w3" else slice(0, 256 if shard == "w2" else 128)
            blocks = slice(place.start // 128, place.stop // 128)
            assert same(parameter.data[expert, place].contiguous(), values)
            found = getattr(layer, f"{name}_scale_inv").data[expert, blocks]
            assert torch.equal(found, scales)
    assert f"model.experts.{name}_scale_inv" in layer.names
    method.process_weights_after_loading(layer)
    assert layer.w13_weight_scale_inv.dtype == torch.float32


def attention_layer(module: Any, config: Any) -> Any:
    """Return a layer as RadixAttention is from 0.5.6 on, its weights created and processed."""
    layer = torch.nn.Module()
    layer.k_scale = layer.v_scale = None
    method = module.Fp8KVCacheMethod(config)
    method.create_weights(layer)
    method.process_weights_after_loading(layer)
    return layer


def test_kv_scales_outlive_a_release(sglang_fp8: tuple[Any, Any]) -> None:
    """A release keeps buffers and discards parameters; no bf16 checkpoint brings scales back."""
    _, module = sglang_fp8
    layer = attention_layer(module, config_of(module))
    assert dict(layer.named_parameters()) == {}
    assert {name: float(value) for name, value in layer.named_buffers()} == {
        "k_scale": 1.0,
        "v_scale": 1.0,
    }
    assert layer.k_scale_float == layer.v_scale_float == 1.0
    serialised = attention_layer(module, config_of(module, quant_method="fp8"))
    assert {name for name, _ in serialised.named_parameters()} == {"k_scale", "v_scale"}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"weight_block_size": [64, 128]}, "weight_block_size=[64, 128]"),
        ({"activation_scheme": "static"}, "activation_scheme='static'"),
    ],
)
def test_impossible_recipes_are_refused(
    sglang_fp8: tuple[Any, Any], given: dict[str, Any], text: str
) -> None:
    _, module = sglang_fp8
    with pytest.raises(ValueError, match="block FP8 on load") as caught:
        config_of(module, **given)
    assert text in str(caught.value)


def test_hardware_without_these_kernels_is_refused(
    sglang_fp8: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    linear, module = sglang_fp8
    monkeypatch.setattr(fp8, "_wants_ue8m0", lambda: True)
    with pytest.raises(RuntimeError, match="SGLANG_ENABLE_JIT_DEEPGEMM=0"):
        column_layer(linear, config_of(module), [256, 256], 256)
    monkeypatch.setattr(module, "_is_hip", True)
    with pytest.raises(RuntimeError, match="NVIDIA GPU"):
        column_layer(linear, config_of(module), [256, 256], 256)


def test_refused_where_it_is_not_supported(no_fp8_version: str) -> None:
    """By the recipe alone; a model that does not ask for it never notices."""

    class Fp8Config:
        @classmethod
        def from_config(cls, config: dict[str, Any]) -> str:
            return "upstream's"

    module: Any = ModuleType("sglang.srt.layers.quantization.fp8")
    module.Fp8Config = Fp8Config
    fp8.patch_fp8(module, no_fp8_version)
    assert module.Fp8Config.from_config({**RECIPE, "quant_method": "fp8"}) == "upstream's"
    with pytest.raises(NotImplementedError, match=f"SGLang {no_fp8_version}. It is on 0.5.2"):
        module.Fp8Config.from_config(RECIPE)
