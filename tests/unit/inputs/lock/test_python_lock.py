from __future__ import annotations

import pytest

from images.errors import LockError
from images.inputs.lock import base_lock, python_lock


def test_the_lock_is_of_the_base_that_is_locked() -> None:
    assert len(python_lock.read(base_lock.read())) == 64


def test_a_base_without_a_package_of_the_interpreter_is_refused() -> None:
    debs = [deb for deb in base_lock.read() if deb.package != python_lock.PROGRAM]
    with pytest.raises(LockError, match=python_lock.PROGRAM) as caught:
        python_lock.read(debs)
    assert caught.value.remedy == "python build.py lock --base"
