"""What several tests share."""

from __future__ import annotations

import os

# before numpy or torch is imported: unpinned thread pools fight over the cores of a small machine
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from pathlib import Path

import pytest

CASES = Path(__file__).parents[2] / "shared" / "cases"


@pytest.fixture(scope="session")
def cases() -> Path:
    """Folder of reference cases that peers' code produced; tests skip where it is not at hand."""
    if not CASES.is_dir():
        pytest.skip("reference cases (../shared/cases) are not present")
    return CASES
