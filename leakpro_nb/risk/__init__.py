"""From measured figures to a verdict in words; the cut-offs are data, not code."""

from leakpro_nb.risk.verdict import Finding, Levels, load_levels, verdict

__all__ = ["Finding", "Levels", "load_levels", "verdict"]
