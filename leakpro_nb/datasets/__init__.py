"""Small real data, shipped in the package, so that a first audit needs no download."""

from __future__ import annotations

from leakpro_nb.datasets.tabular import Dataset, adult, support2

__all__ = ["Dataset", "adult", "support2"]
