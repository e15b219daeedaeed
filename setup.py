"""Reports an older Python: an old pip fails on a dependency before it checks `requires-python`.

All settings are in pyproject.toml.
"""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).resolve().parent))

from images import requirements

if reason := requirements.missing():
    requirements.refuse(reason)
setup()
