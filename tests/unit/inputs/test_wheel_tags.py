from __future__ import annotations

import sys

import packaging._manylinux
import pytest
from packaging.tags import sys_tags

from images.inputs import wheel_tags


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="compares with Python 3.11's own tags")
def test_tags_are_ranked_as_pip_ranks_them_in_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    packaging._manylinux._get_glibc_version.cache_clear()
    monkeypatch.setattr(packaging._manylinux, "_get_glibc_version", lambda: (2, 36))
    ranks = wheel_tags.ranks()
    # No index has wheels for plain linux, which packaging ranked last before 26.3 and first since.
    own = [tag for tag in sorted(ranks, key=ranks.__getitem__) if tag.platform != "linux_x86_64"]
    theirs = dict.fromkeys(tag for tag in sys_tags() if tag.platform != "linux_x86_64")
    assert own == list(theirs)
