"""Pictures out of a notebook: measured, bounded, and stripped of anything active."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from typing import Any, Literal
from xml.etree.ElementTree import Element, ParseError, tostring

from defusedxml import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]

from leakpro_nb.report.document import Figure
from leakpro_nb.report.text import printable, shorten

__all__ = ["NO_ALT", "figure", "from_data_uri"]

NO_ALT = "Figure without description"
MAX_BYTES = 20_000_000
MAX_PIXELS = 50_000_000
MAX_ELEMENTS = 200_000

_SVG = "{http://www.w3.org/2000/svg}"
_XLINK_HREF = "{http://www.w3.org/1999/xlink}href"
_INERT_IMAGE = re.compile(r"^data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]*$")
_FOREIGN_URL = re.compile(r"url\(\s*['\"]?(?!\s*['\"]?#)|@import|expression\(|\\", re.IGNORECASE)
# What draws, and what drawing refers to. Scripts, links, animation, foreign markup and metadata are left out.
_SVG_TAGS = frozenset(
    {
        "svg",
        "g",
        "defs",
        "path",
        "rect",
        "circle",
        "ellipse",
        "line",
        "polyline",
        "polygon",
        "text",
        "tspan",
        "textPath",
        "use",
        "image",
        "symbol",
        "marker",
        "clipPath",
        "mask",
        "pattern",
        "linearGradient",
        "radialGradient",
        "stop",
        "style",
        "title",
        "desc",
        "switch",
    }
)
_UNIT = {"": 0.75, "px": 0.75, "pt": 1.0, "in": 72.0, "cm": 72 / 2.54, "mm": 72 / 25.4, "pc": 12.0}


def figure(
    mime: str, data: str | bytes | list[str], alt: str = "", caption: str = "", width: float | None = None
) -> Figure | None:
    """Build a figure from an output of type ``mime``; ``None`` when it is no picture we can vouch for.

    Parameters
    ----------
    data
        Base64 text for PNG and JPEG, source for SVG, or raw bytes.
    alt
        Description for those who cannot see the picture.
    width
        Width in CSS pixels if the notebook says so (retina figures do).
    """
    if isinstance(data, list):
        data = "".join(data)
    alt = " ".join(printable(alt).split())
    made = _svg(data) if mime == "image/svg+xml" else _raster(mime, data)
    if made is None:
        return None
    kind, content, natural_width, natural_height = made
    if width and 0 < width < 20_000:
        natural_width, natural_height = width * 0.75, natural_height * width * 0.75 / natural_width
    return Figure(
        kind,
        content,
        shorten(alt, 2000) or NO_ALT,
        round(natural_width, 2),
        round(natural_height, 2),
        caption or _first_sentence(alt),
    )


def from_data_uri(uri: str, alt: str) -> Figure | None:
    """Build a figure from a ``data:`` address; any other address is ``None``: nothing is ever fetched."""
    match = re.match(r"\s*data:(image/(?:png|jpeg|svg\+xml))((?:;[^,;]*)*),(.*)", uri, re.DOTALL)
    if not match or "base64" not in match[2]:
        return None
    content = _decode(match[3])
    return figure(match[1], content, alt) if content else None


def _first_sentence(alt: str) -> str:
    """A caption for the sighted, short enough to stand below the picture."""
    sentence = re.split(r"(?<=[.!?])\s", alt, maxsplit=1)[0]
    return shorten(sentence, 160)


def _decode(data: str | bytes) -> bytes | None:
    if isinstance(data, bytes):
        return data
    if len(data) > MAX_BYTES * 4 // 3:
        return None
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


_Made = tuple[Literal["image/png", "image/jpeg", "image/svg+xml"], bytes, float, float]


def _raster(mime: str, data: str | bytes) -> _Made | None:
    content = _decode(data)
    if not content or len(content) > MAX_BYTES:
        return None
    try:
        if mime == "image/png":
            pixels_x, pixels_y, dpi = _png_size(content)
        elif mime == "image/jpeg":
            pixels_x, pixels_y, dpi = _jpeg_size(content)
        else:
            return None
    except (struct.error, IndexError, ValueError):
        return None
    if not 0 < pixels_x * pixels_y <= MAX_PIXELS:
        return None
    kind: Literal["image/png", "image/jpeg"] = "image/png" if mime == "image/png" else "image/jpeg"
    return kind, content, pixels_x * 72 / dpi, pixels_y * 72 / dpi


def _png_size(content: bytes) -> tuple[int, int, float]:
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR":
        raise ValueError("not a PNG")
    width, height = struct.unpack(">II", content[16:24])
    dpi, at = 96.0, 8
    while at + 12 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        if kind == b"pHYs":
            per_x, _, unit = struct.unpack(">IIB", content[at + 8 : at + 17])
            if unit == 1 and per_x:
                dpi = min(max(per_x * 0.0254, 36.0), 1200.0)
        if kind in {b"pHYs", b"IDAT"}:
            break
        at += 12 + length
    return width, height, dpi


def _jpeg_size(content: bytes) -> tuple[int, int, float]:
    if content[:2] != b"\xff\xd8":
        raise ValueError("not a JPEG")
    at = 2
    while True:
        marker, length = struct.unpack(">HH", content[at : at + 4])
        if 0xFFC0 <= marker <= 0xFFCF and marker not in {0xFFC4, 0xFFC8, 0xFFCC}:
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return width, height, 96.0
        if marker < 0xFF00:
            raise ValueError("not a JPEG")
        at += 2 + length


def _svg(data: str | bytes) -> _Made | None:
    source = data.encode("utf-8", "ignore") if isinstance(data, str) else data
    if len(source) > MAX_BYTES:
        return None
    try:
        root = fromstring(printable(source.decode("utf-8", "ignore")), forbid_entities=True)
    except (ParseError, DefusedXmlException, ValueError, RecursionError):
        return None
    if root.tag != f"{_SVG}svg" or sum(1 for _ in root.iter()) > MAX_ELEMENTS or _multiplies(root):
        return None
    if _depth(root) > 60:
        return None
    _strip(root)
    width, height = _svg_size(root)
    content = tostring(root, encoding="unicode").encode()
    return "image/svg+xml", content, width, height


def _multiplies(root: Element) -> bool:
    """Whether a reference points at something that holds references: growth without bound."""
    wanted = {_href(use).lstrip("#") for use in root.iter(f"{_SVG}use")}
    return any(
        element.get("id") in wanted and next(element.iter(f"{_SVG}use"), None) is not None for element in root.iter()
    )


def _depth(root: Element) -> int:
    deepest, stack = 0, [(root, 1)]
    while stack:
        element, depth = stack.pop()
        deepest = max(deepest, depth)
        stack.extend((child, depth + 1) for child in element)
    return deepest


def _href(element: Element) -> str:
    return (element.get("href") or element.get(_XLINK_HREF) or "").strip()


def _strip(root: Element) -> None:
    """Keep what draws; drop scripts, handlers, foreign markup and every reference to the outside."""
    for element in list(root.iter()):
        for child in list(element):
            if not _draws(child):
                element.remove(child)
        for name, value in list(element.attrib.items()):
            if not _inert(element, name, value):
                del element.attrib[name]


def _draws(element: Element) -> bool:
    tag = element.tag if isinstance(element.tag, str) else ""
    if not tag.startswith(_SVG) or tag.removeprefix(_SVG) not in _SVG_TAGS:
        return False
    if tag == f"{_SVG}style":
        return not _FOREIGN_URL.search("".join(element.itertext()))
    return True


def _inert(element: Element, name: str, value: Any) -> bool:
    local = name.rpartition("}")[2].lower()
    if local == "href":
        if element.tag == f"{_SVG}image":
            return bool(_INERT_IMAGE.match(value.strip()))
        return bool(value.strip().startswith("#"))
    return not local.startswith("on") and not _FOREIGN_URL.search(value)


def _svg_size(root: Element) -> tuple[float, float]:
    box = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", root.get("viewBox") or "")]
    box_width, box_height = (box[2], box[3]) if len(box) == 4 and min(box[2:]) > 0 else (640.0, 480.0)
    width = _length(root.get("width")) or (_length(root.get("height")) or 0) * box_width / box_height
    width = width or box_width * 0.75
    height = _length(root.get("height")) or width * box_height / box_width
    return min(width, 20_000.0), min(height, 20_000.0)


def _length(value: str | None) -> float | None:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(px|pt|in|cm|mm|pc)?\s*", value or "")
    return float(match[1]) * _UNIT[match[2] or ""] or None if match else None
