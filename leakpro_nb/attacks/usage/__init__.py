"""How much of a collection of records was used: one file per attack."""

from leakpro_nb.attacks.usage.dataset_usage import DatasetUsage

__all__ = ["DatasetUsage"]
