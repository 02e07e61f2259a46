"""HTML out of a notebook's outputs into blocks: tables stay tables, everything active is left behind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from bs4 import BeautifulSoup, CData, NavigableString, Tag
from bs4.element import PreformattedString

from leakpro_nb.report import figures, tables
from leakpro_nb.report.document import (
    Block,
    Break,
    Cell,
    Code,
    Heading,
    Inline,
    Link,
    Listing,
    Paragraph,
    Quote,
    Rule,
    Styled,
    Table,
    Text,
    Verbatim,
    plain,
)
from leakpro_nb.report.text import safe_url, shorten

__all__ = ["blocks"]

MAX_SOURCE = 8_000_000
MAX_DEPTH = 24
MAX_SPAN = 100
MAX_UNENDED = 100

_DROPPED = frozenset(
    {
        "script", "style", "head", "template", "iframe", "object", "embed", "noscript", "svg",
        "math", "canvas", "audio", "video", "form", "input", "button", "select", "option",
        "textarea", "link", "meta", "base", "title", "applet", "frame", "frameset", "map", "area",
        "source", "track", "param"
    }
)  # fmt: skip
_BLOCKS = frozenset(
    {
        "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "div", "dl",
        "dt", "fieldset", "figcaption", "figure", "footer", "h1", "h2", "h3", "h4", "h5", "h6",
        "header", "hr", "html", "li", "main", "nav", "ol", "p", "pre", "section", "summary",
        "table", "ul", "img", "tbody", "tr", "td"
    }
)  # fmt: skip
_STYLES: dict[str, Literal["strong", "emph", "strike", "sub", "super"]] = {
    "b": "strong", "strong": "strong", "i": "emph", "em": "emph", "s": "strike", "del": "strike",
    "strike": "strike", "sub": "sub", "sup": "super",
}  # fmt: skip
_NAMED = {
    "yellow": "#ffff00", "red": "#ff0000", "green": "#008000", "blue": "#0000ff", "orange": "#ffa500",
    "white": "#ffffff", "black": "#000000", "gray": "#808080", "grey": "#808080", "lightgreen": "#90ee90",
    "lightblue": "#add8e6", "pink": "#ffc0cb", "lightgray": "#d3d3d3", "lightgrey": "#d3d3d3",
    "salmon": "#fa8072", "lightyellow": "#ffffe0", "lime": "#00ff00", "gold": "#ffd700", "tomato": "#ff6347",
    "darkred": "#8b0000", "darkgreen": "#006400", "purple": "#800080", "cyan": "#00ffff", "coral": "#ff7f50",
}  # fmt: skip
# The parser takes quadratic time over comments and tags that never end; these find them in linear time.
_COMMENT = re.compile(r"<(?:!--.*?(?:-->|\Z)|[!?][^>]*(?:>|\Z))", re.DOTALL)
_UNENDED = re.compile(r"<(?=[^<>]*(?:<|\Z))")
_SHAPE = re.compile(r"^\s*[\d,]+ rows × [\d,]+ columns\s*$")

Styles = dict[str, dict[str, str]]


def blocks(source: str) -> list[Block]:
    """Return the blocks of an HTML fragment."""
    soup = BeautifulSoup(_bounded(source[:MAX_SOURCE]), "html.parser")
    found = _Reader(_cell_styles(soup)).blocks(soup, 0)
    return [block for i, block in enumerate(found) if not _states_shape(block, found[:i])]


def _bounded(source: str) -> str:
    """Take out comments, and where tags never end make their brackets words."""
    source = _COMMENT.sub("", source)
    return _UNENDED.sub("&lt;", source) if len(_UNENDED.findall(source)) > MAX_UNENDED else source


def _states_shape(block: Block, before: list[Block]) -> bool:
    """Whether ``block`` is pandas' "3 rows × 2 columns" below a table that shows them all anyway."""
    if not (isinstance(block, Paragraph) and before and isinstance(before[-1], Table)):
        return False
    words = plain(block.children)
    return bool(_SHAPE.match(words)) and int(words.split()[0].replace(",", "")) == len(before[-1].body)


def _cell_styles(soup: BeautifulSoup) -> Styles:
    """Read the rules that a pandas Styler writes: ``#id, #id {property: value}``."""
    styles: Styles = {}
    for sheet in soup.find_all("style"):
        for rule in sheet.get_text().split("}"):
            selectors, _, body = rule.rpartition("{")
            rules = _declarations(body)
            for selector in selectors.split(","):
                if re.fullmatch(r"\s*#[\w-]+\s*", selector):
                    styles.setdefault(selector.strip()[1:], {}).update(rules)
    return styles


def _declarations(body: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in body.split(";"))
    return {name.strip().lower(): value.strip().lower() for name, _, value in pairs if value.strip()}


def _colour(value: str | None) -> str | None:
    """Return a CSS colour as ``#rrggbb``; anything else that CSS allows is ignored."""
    value = (value or "").removesuffix("!important").strip()
    if match := re.fullmatch(r"#([0-9a-f]{3}|[0-9a-f]{6})(?:[0-9a-f]{2})?", value):
        digits = match[1]
        return f"#{digits}" if len(digits) == 6 else "#" + "".join(2 * digit for digit in digits)
    if match := re.fullmatch(r"rgba?\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*(?:,\s*1(?:\.0*)?\s*)?\)", value):
        return "#" + "".join(f"{min(int(part), 255):02x}" for part in match.groups())
    return _NAMED.get(value)


def _ink_on(background: str) -> str:
    """Black or white, whichever reads better on ``background``."""
    red, green, blue = (int(background[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"


class _Reader:
    """Walks a parsed fragment, bounded in depth, and collects blocks."""

    def __init__(self, styles: Styles) -> None:
        self.styles = styles

    def _style(self, tag: Tag) -> dict[str, str]:
        return {**self.styles.get(str(tag.get("id", "")), {}), **_declarations(str(tag.get("style", "")))}

    def _hidden(self, tag: Tag) -> bool:
        return tag.name in _DROPPED or tag.has_attr("hidden") or self._style(tag).get("display") == "none"

    def _children(self, tag: Tag) -> Iterator[Tag | str]:
        for child in tag.children:
            if isinstance(child, Tag):
                if not self._hidden(child):
                    yield child
            elif isinstance(child, NavigableString) and (
                isinstance(child, CData) or not isinstance(child, PreformattedString)
            ):
                yield str(child)

    def blocks(self, tag: Tag, depth: int) -> list[Block]:
        if depth > MAX_DEPTH:
            return _paragraph((Text(_squeezed(shorten(tag.get_text(" "), 20_000))),))
        found: list[Block] = []
        run: list[Inline] = []
        for child in self._children(tag):
            if isinstance(child, Tag) and (child.name in _BLOCKS or _holds_blocks(child)):
                found += _paragraph(tuple(run))
                run = []
                found += self._block(child, depth + 1)
            else:
                run += self._inline(child, depth + 1)
        return found + _paragraph(tuple(run))

    def _block(self, tag: Tag, depth: int) -> list[Block]:  # noqa: PLR0911 - one line per kind of element
        match tag.name:
            case "h1" | "h2" | "h3" | "h4" | "h5" | "h6" as name:
                return [Heading(int(name[1]), self._inlines(tag, depth))]
            case "table":
                table = self._table(tag, depth)
                return [table] if table else []
            case "ul" | "ol" as name:
                items = [item for item in self._children(tag) if isinstance(item, Tag)]
                content = tuple(tuple(self.blocks(item, depth)) for item in items)
                return [Listing(content, 1 if name == "ol" else None)] if content else []
            case "blockquote":
                return [Quote(tuple(self.blocks(tag, depth)))]
            case "pre":
                return [Verbatim(tag.get_text().strip("\n"))]
            case "hr":
                return [Rule()]
            case "img":
                alt = str(tag.get("alt", ""))
                figure = figures.from_data_uri(str(tag.get("src", "")), alt)
                return [figure] if figure else _paragraph((Text(f"[{shorten(alt, 500)}]" if alt else ""),))
            case _:
                return self.blocks(tag, depth)

    def _inlines(self, tag: Tag, depth: int) -> tuple[Inline, ...]:
        if depth > MAX_DEPTH:
            return (Text(_squeezed(shorten(tag.get_text(" "), 20_000))),)
        return tuple(part for child in self._children(tag) for part in self._inline(child, depth + 1))

    def _inline(self, child: Tag | str, depth: int) -> list[Inline]:
        if isinstance(child, str):
            return [Text(_squeezed(child))]
        if child.name == "br":
            return [Break()]
        if child.name in {"code", "kbd", "samp", "tt", "pre"}:
            return [Code(_squeezed(child.get_text()))]
        inner = self._inlines(child, depth)
        if child.name in _STYLES:
            return [Styled(_STYLES[child.name], inner)]
        target = safe_url(str(child.get("href", ""))) if child.name == "a" else None
        if target and plain(inner).strip():
            return [Link(target, inner)]
        # Blocks that stand where only words can (a paragraph in a table cell) keep their words apart.
        return [*inner, Text(" ")] if child.name in _BLOCKS else list(inner)

    def _table(self, tag: Tag, depth: int) -> Table | None:
        head: list[list[Cell]] = []
        body: list[list[Cell]] = []
        for row in _own_rows(tag):
            if self._hidden(row):
                continue
            cells = [self._cell(cell, depth) for cell in row.find_all(["td", "th"], recursive=False)
                     if not self._hidden(cell)]  # fmt: skip
            is_head = row.parent is not None and row.parent.name == "thead"
            is_head = is_head or (not body and bool(cells) and all(cell.header for cell in cells))
            (head if is_head and not body else body).append(cells)
        caption = tag.find("caption", recursive=False)
        title = plain(self._inlines(caption, depth)).strip() if isinstance(caption, Tag) else ""
        return tables.make(_without_index_names(head), body, shorten(title, 300))

    def _cell(self, tag: Tag, depth: int) -> Cell:
        style = self._style(tag)
        background = _colour(style.get("background-color") or style.get("background"))
        align = style.get("text-align")
        return Cell(
            _trimmed(self._inlines(tag, depth)),
            header=tag.name == "th",
            colspan=_span(tag.get("colspan")),
            rowspan=_span(tag.get("rowspan")),
            align=align if align in {"left", "right", "center"} else None,  # type: ignore[arg-type]
            background=background,
            colour=_colour(style.get("color")) or (_ink_on(background) if background else None),
            bold=style.get("font-weight", "") in {"bold", "bolder", "600", "700", "800", "900"},
        )


def _own_rows(table: Tag) -> Iterable[Tag]:
    """Yield the rows of ``table``, not those of a table inside one of its cells."""
    for child in table.find_all(["tr", "thead", "tbody", "tfoot"], recursive=False):
        if child.name == "tr":
            yield child
        else:
            yield from child.find_all("tr", recursive=False)


def _without_index_names(head: list[list[Cell]]) -> list[list[Cell]]:
    """Merge pandas' second header row, which holds nothing but the index names, into the first."""
    if len(head) != 2 or len(head[0]) != len(head[1]):
        return head
    first, second = head
    words = [(plain(a.children).strip(), plain(b.children).strip()) for a, b in zip(first, second, strict=True)]
    spans = any(cell.colspan > 1 or cell.rowspan > 1 for cell in [*first, *second])
    if spans or any(a and b for a, b in words):
        return head
    named = [i for i, (_, b) in enumerate(words) if b]
    if named != list(range(len(named))):
        return head
    return [[b if plain(b.children).strip() else a for a, b in zip(first, second, strict=True)]]


def _holds_blocks(tag: Tag) -> bool:
    return tag.name not in {"table"} and tag.find(_BLOCKS) is not None


def _span(value: object) -> int:
    text = str(value or "1").strip()
    return min(max(int(text), 1), MAX_SPAN) if text.isascii() and text.isdigit() and len(text) < 12 else 1


def _squeezed(text: str) -> str:
    # Only what HTML calls white space: a no-break space is there on purpose.
    return re.sub(r"[ \t\n\r\f]+", " ", text)


def _trimmed(children: tuple[Inline, ...]) -> tuple[Inline, ...]:
    parts = list(children)
    while parts and isinstance(parts[0], Text) and not parts[0].text.strip():
        parts.pop(0)
    while parts and isinstance(parts[-1], Text) and not parts[-1].text.strip():
        parts.pop()
    if parts and isinstance(parts[0], Text):
        parts[0] = Text(parts[0].text.lstrip())
    if parts and isinstance(parts[-1], Text):
        parts[-1] = Text(parts[-1].text.rstrip())
    return tuple(parts)


def _paragraph(children: tuple[Inline, ...]) -> list[Block]:
    children = _trimmed(children)
    return [Paragraph(children)] if plain(children).strip() else []
