"""Reference models with known membership, trained once and shared by every attack."""

from leakpro_nb.shadows.ensemble import train_shadows
from leakpro_nb.shadows.splits import paired_splits, sized_splits

__all__ = ["paired_splits", "sized_splits", "train_shadows"]
