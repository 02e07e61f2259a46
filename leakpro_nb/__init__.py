"""If we release this model, what can an attacker learn about the people in the data?

Public names load on first use, so that ``import leakpro_nb`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "AccessDenied": "errors",
    "AuditFailed": "errors",
    "InputError": "errors",
    "LeakproError": "errors",
    "Records": "game.records",
    "Recipe": "game.recipes",
    "SyntheticRelease": "game.tables",
    "Target": "game.target",
    "ThreatModel": "game.threat",
    "View": "game.views",
    "Result": "results",
    "train_shadows": "shadows.ensemble",
    "audit": "notebooks.run",
}
_MODULES = frozenset(
    {"attacks", "audits", "datasets", "measures", "notebooks", "plots", "report", "shadows", "story", "widgets"}
)

__all__ = ["__version__", *sorted(_HOMES), *sorted(_MODULES)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
