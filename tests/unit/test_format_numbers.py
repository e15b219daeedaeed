"""Format numbers: what is made of fixed inputs stays as it is while its number stays.

Each maker runs the code that a number stands for, on inputs that never change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from images import format_numbers
from images.unbundle import document
from tests.unit import made_documents, made_layers

EXPECTED = {
    "LAYER_WRITER": ("2", "bc6376f699c329c4e59e3dcf24a3ef2c92344db1ba7cb40cfcdeb639645209f0"),
    "BYTE_CODE": ("4", "650ad882761cfd6351b7ce409ff62ccbd08628c9b6f534973cebe4af94e1e601"),
    "WHEELS": ("1", "b907acb87e8b6af75aa61fe2cc607755da0f2fda7f28bb9b1ebdabeb32fce807"),
    "GPU_CODE": ("1", "fe6139ffa528bd1505b9e80537fcf50b6b130dfab8ed597ceba0e396151910a4"),
    "SDIST": ("1", "9a06d751e5156bfd86cc03aed707bdb8ca4f67cb21683ae3fd2b09b5088b6551"),
    "COMPILED_SDIST": ("1", "29c0976a75d56eb3bcfadc1d30cf87d949006dbd67e0fc2bfd6d63d99ef3ead3"),
    "DEBIAN_ROOTFS": ("2", "2407a934ac7ddc75db0d118fafda1d7ad304f139a38dec4e2279fab6a0e69c7c"),
    "EXTRA_PACKAGES": ("1", "8efe2787e47977cbcc9c228c14b0f8557530e83e4ccb5ed1f2c64ec56ed75e0f"),
    "CUSTOM_BASE_VENV": ("1", "82958312d0c146b6f5a53d52b0b3b054190ee1b36c9cfd55c529660a33704b20"),
    "CUDA_COMPILER_12_4": ("1", "35ead032d98e426c51b24035ed15269e6a341bf345906e1c903be8fdaf13d56e"),
    "CUDA_COMPILER_13_0": ("1", "3179a7e9c56b2f22359052ecc02a92dc3956b538cecbae1eb31c24e4b303917a"),
    "KERNELS": ("3", "8036c7bdf4790e618c7d41f3271a6471c4d7cda5294ff5c5c30c133e1b65eacf"),
    "CUDA_LINKS": ("1", "80a6ab6240f6a791bb7e9cfbee2a304b33d5e267492708a33b6b978b355c2cd1"),
    "ROLL_RUNTIME": ("1", "106bffe760274fc19dd7db1323f307db830eb9c8134990b9b4db94d1f72ef2dc"),
    "TARGET_LOCK": ("1", "c06d2ad91d6f79d7304716c2f4096b4c9380e7aeff82baf08f1f3157d7d2a2cf"),
    "INTERPRETER": ("2", "54b01d6fd726d9571427a10a5f8ce161db0c6e52abd0a07041c8a30d562d5dff"),
    "SBOM": ("3", "6a08e6bdbc005a9639af60dbba244347946162515f9148039fee0a01b3f10e5d"),
    "PROVENANCE": ("3", "775b546ca7e6f8e36ce375f809705a83eed10dbd274ed6b07f0d79963f6fb191"),
    "CACHE_RECORD": ("1", "4a8052e6354ac8e06414330b658bc4694c777eda977db90b560deab686a16bc3"),
    "CUSTOM_BASE_FACTS": ("2", "36e1e47786137687b903b9cca7545492f4b9792a5f8fb69526e7b85e2f9be854"),
    "COMPARED_FILES": ("1", "9154219e8545d0d00dd5893bbe0098105672e7d976b02388e6dbe225ca6abfaa"),
}  # fmt: skip
"""Of each number: its value, and the SHA-256 of what is made."""

BUNDLE = (1, "cfcfd7885c32b89fbeada0edac93d264c8c84609d0b34fb1c56072cd98c6be8a")
"""The same of `bundle.json`, whose number travels with its reader."""

MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"
MAKERS: dict[str, Callable[[Path, pytest.MonkeyPatch], object]] = {
    "LAYER_WRITER": made_layers.layer,
    "BYTE_CODE": made_layers.byte_code,
    "WHEELS": made_layers.installed_wheels,
    "GPU_CODE": made_layers.changed_wheels,
    "SDIST": made_layers.built_sdist,
    "COMPILED_SDIST": made_layers.compiled_sdist,
    "DEBIAN_ROOTFS": made_layers.root_file_system,
    "EXTRA_PACKAGES": made_layers.packages_of_a_flavour,
    "CUSTOM_BASE_VENV": made_layers.environment,
    "CUDA_COMPILER_12_4": made_layers.compiler_12_4,
    "CUDA_COMPILER_13_0": made_layers.compiler_13_0,
    "KERNELS": made_layers.compiled_kernels,
    "CUDA_LINKS": made_layers.cuda_links,
    "ROLL_RUNTIME": made_layers.wheel_of_roll_runtime,
    "TARGET_LOCK": made_documents.lock_of_a_target,
    "INTERPRETER": made_documents.interpreter_in_the_cache,
    "SBOM": made_documents.bill_of_materials,
    "PROVENANCE": made_documents.provenance_of_a_run,
    "CACHE_RECORD": made_documents.record_of_the_cache,
    "CUSTOM_BASE_FACTS": made_documents.facts_of_a_base,
    "COMPARED_FILES": made_documents.comparison,
}


def digest_of(made: object) -> str:
    return hashlib.sha256(json.dumps(made, default=bytes.hex).encode()).hexdigest()


def test_each_number_has_a_maker() -> None:
    numbers = {name for name in vars(format_numbers) if name.isupper()}
    assert numbers == set(MAKERS) == set(EXPECTED)


@pytest.mark.parametrize("number", MAKERS)
def test_fixed_inputs_make_the_same_bytes_while_the_number_stays(
    number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = getattr(format_numbers, number), digest_of(MAKERS[number](tmp_path, monkeypatch))
    assert made == EXPECTED.get(number), (
        f"{number}: other bytes are made of the same inputs. If that is meant to be, raise "
        f"format_numbers.{number}, so that nothing of before is taken for it, and write down {made}"
    )


def test_bundle_document_stays_while_its_number_stays() -> None:
    manifest, config = "{}", "{}"
    layers = (
        document.Layer(
            0, "base", f"sha256:{'1' * 64}", f"sha256:{'2' * 64}", 10, MEDIA_TYPE, "blob", 0, 10
        ),
    )
    parts = (document.Part("part-0000", 10, "6" * 64),)
    bundle = document.Bundle("one", manifest, config, layers, 10, parts, {"unpack.py": "7"}, "")
    made = document.FORMAT, digest_of(document.encode(bundle))
    assert made == BUNDLE, (
        "bundle.json has another form: raise images.unbundle.document.FORMAT, so that older "
        f"unpackers refuse it, and write down {made}"
    )
