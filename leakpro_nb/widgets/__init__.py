"""Controls for a notebook: they edit what a notebook's parameters say, and stand still where nobody clicks.

Names load on first use: a notebook without widgets pays nothing for them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leakpro_nb.widgets.threat_chooser import ThreatChooser, choose_threat

__all__ = ["ThreatChooser", "choose_threat"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"{__name__}.threat_chooser"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
