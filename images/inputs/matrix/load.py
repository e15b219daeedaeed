"""Loads matrix.yaml as frozen records, and checks it as a whole before anything runs.

    matrix = load(Path("matrix.yaml"))
    target = matrix.target("torch280-sglang052")

All faults of the file are reported at once, with their lines and suggestions for misspelt words.
"""

from __future__ import annotations

from pathlib import Path

from images.inputs.matrix import rows, yaml_nodes
from images.inputs.matrix.records import Base, Matrix
from images.repository import SGLANG_VERSIONS


def load(path: Path, runtime_versions: Path | None = None) -> Matrix:
    """Read and check a matrix file.

    Args:
        path: the file.
        runtime_versions: roll_runtime's table of SGLang versions; the repository's by default.

    Raises:
        MatrixError: the file cannot be read or has faults; it lists all of them.
    """
    faults = yaml_nodes.Faults(path)
    root = yaml_nodes.read(path, faults)
    here = path.absolute()
    document = rows.Document(root, here, runtime_versions or SGLANG_VERSIONS, faults)
    matrix = Matrix(
        path=here,
        python=document.python,
        base=Base(document.suite, document.base),
        toolkits=tuple(document.toolkits.values()),
        locks=document.locks,
        targets=document.targets,
    )
    faults.stop()
    return matrix
