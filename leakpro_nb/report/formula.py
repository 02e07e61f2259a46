"""LaTeX formulas, turned into Typst maths where that is safe and works."""

from __future__ import annotations

import re
from functools import lru_cache

import typst

from leakpro_nb.report.text import printable
from leakpro_nb.report.typ import FONTS, equation

__all__ = ["convert", "picture"]

MAX_TEX = 2000
# Converted maths is code. ``eval`` already keeps it from this report's own names; these guards keep it from
# the standard library and from leaving maths mode.
_REACHES_OUT = re.compile(r"\bstd\b|\$|@|\beval\b|\bimport\b|\binclude\b")
_ALLOWED_CALLS = re.compile(r"#(?:text\[|h\(-?\d)")


@lru_cache(maxsize=512)
def convert(tex: str, *, block: bool) -> str | None:
    """Return ``tex`` as Typst maths that is known to compile, or ``None`` when it must be shown as source."""
    tex = printable(tex).strip()
    if not tex or "#" in tex or len(tex) > MAX_TEX:
        return None
    converted = _latex_to_typst(tex)
    if converted is None or _REACHES_OUT.search(converted) or "#" in _ALLOWED_CALLS.sub("", converted):
        return None
    return converted if _compiles(converted, block=block) else None


def _latex_to_typst(tex: str) -> str | None:
    try:
        import tylax
    except ImportError:
        return None
    try:
        return str(tylax.latex_to_typst(tex)).strip() or None
    except Exception:  # noqa: BLE001 - whatever a converter stumbles over, the formula's source remains
        return None


def _alone(converted: str, *, block: bool) -> bytes:
    page = "#set page(width: auto, height: auto, margin: 1pt, fill: none)\n"
    title = "#set document(title: [formula])\n#set text(size: 11pt)\n"
    return (page + title + equation(converted, "formula", block=block)).encode()


def _compiles(converted: str, *, block: bool) -> bool:
    """Try a formula on its own: one bad formula must not lose a report."""
    try:
        typst.compile(_alone(converted, block=block), font_paths=FONTS(), pdf_standards=["ua-1"], timestamp=0)
    except Exception:  # noqa: BLE001 - the compiler's errors and its panics mean the same here
        return False
    return True


@lru_cache(maxsize=512)
def picture(tex: str, *, block: bool) -> tuple[bytes, float] | None:
    """Return ``tex`` as an SVG and its width in points, or ``None`` when it must be shown as source."""
    converted = convert(tex, block=block)
    if converted is None:
        return None
    svg = typst.compile(_alone(converted, block=block), font_paths=FONTS(), format="svg")
    width = re.search(rb'width="([\d.]+)pt"', svg)
    return svg, float(width[1]) if width else 0.0
