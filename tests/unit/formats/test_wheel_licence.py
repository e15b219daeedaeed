"""The licence of a wheel is that of its text; metadata counts where it has none."""

from __future__ import annotations

from email.message import Message

import pytest

from images.errors import IntegrityError
from images.formats import wheel_licence

BSD = """Copyright (c) 2015-2020, NVIDIA CORPORATION. All rights reserved.

 Redistribution and use in source and binary forms, with or without
 modification, are permitted provided that the following conditions
"""
EULA = "End User License Agreement\n" + "terms and conditions\n" * 500 + BSD


def metadata(**fields: str) -> Message:
    found = Message()
    for name, value in fields.items():
        found[name.replace("_", "-")] = value
    return found


def check(licence: str, text: str = "", **fields: str) -> None:
    texts = {"demo.dist-info/LICENSE": text} if text else {}
    wheel_licence.check("demo.whl", licence, texts, metadata(**fields))


def test_text_counts_whatever_the_metadata_states() -> None:
    check("BSD-3-Clause", BSD, License="NVIDIA Proprietary Software")
    with pytest.raises(IntegrityError, match=r"not under BSD-3-Clause.*another text"):
        check("BSD-3-Clause", EULA, License="BSD-3-Clause")
    with pytest.raises(IntegrityError, match="not under MIT"):
        check("MIT", BSD, License="MIT")


@pytest.mark.parametrize("field", ["License", "License_Expression"])
def test_metadata_counts_without_a_text(field: str) -> None:
    check("Apache-2.0", **{field: "Apache-2.0"})
    with pytest.raises(IntegrityError, match="METADATA states 'LicenseRef-NVIDIA'"):
        check("Apache-2.0", **{field: "LicenseRef-NVIDIA"})


def test_wheel_that_states_no_licence_is_refused() -> None:
    with pytest.raises(IntegrityError, match="no licence") as refused:
        check("MIT")
    assert "`gpu_code:`" in str(refused.value.remedy)


@pytest.mark.parametrize(
    ("member", "is_text"),
    [
        ("demo-1.dist-info/LICENSE", True),
        ("demo-1.dist-info/License.txt", True),
        ("demo-1.dist-info/licenses/LICENSE.md", True),
        ("demo-1.dist-info/licenses/vendored/LICENSE", False),
        ("demo-1.dist-info/licenses/NOTICE", False),
        ("demo/LICENSE", False),
    ],
)
def test_texts_are_those_of_the_wheel_itself(member: str, is_text: bool) -> None:
    assert wheel_licence.is_text(member, "demo-1.dist-info") == is_text
