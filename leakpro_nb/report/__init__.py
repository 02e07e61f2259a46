"""Executed notebooks into reports: Typst, PDF, HTML, and one report for a whole audit folder.

The names load on first use, so that importing this package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leakpro_nb.report.exporter import HTMLReportExporter, PDFExporter, TypstExporter
    from leakpro_nb.report.folder import build_report

__all__ = ["HTMLReportExporter", "PDFExporter", "TypstExporter", "build_report"]

_HOMES = {
    "HTMLReportExporter": "exporter",
    "PDFExporter": "exporter",
    "TypstExporter": "exporter",
    "build_report": "folder",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
